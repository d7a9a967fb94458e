"""A real decoder as backbone: experts beside LoRA r=16, and which states route best in it.

Run it with: python examples/benchmarks/decoder.py DATA --backbone MODEL.gguf [--parts PART ...]

Needs peft, and package gguf for a GGUF file. Parts, default all: ``rates`` chooses one rate a side,
``experts`` does so and trains both sides on every task, ``routing`` is of ``decoder_states.py``.

All sides see the same training rows in the same batches with the same head, head start, optimiser
and number of epochs, and choose the epoch on the same held-out training rows; see
``lora_baseline.py``. LoRA r=16 acts on query and value of all layers. TT-LoRA has the product's
defaults but for rate and epochs, and LoRA r=1, if ``--sides`` names it, those of its kind; all keep
the weights of an epoch's last step. Rates are chosen by the mean over ``--rate-tasks`` and all
seeds on other training rows. Three are tried a side; where the best stands at the edge of those
tried, the next one beyond is tried too; ``--rates`` takes those chosen elsewhere. Validation rows
choose nothing and are answered once.

Intervals are those of ``intervals.py``; against the majority class stands the product's one-sided
exact McNemar test, of the first seed. Every finished run is one line of ``--out`` and is not
repeated. Tasks follow one another with all sides, so that a stop leaves whole pairs; a table is of
seeds that have whole pairs. ``--tt-rank`` and ``--route-layer`` are of ``experts`` and TT-LoRA
alone: rates stay those of the defaults, and LoRA's runs and their batches too. Other ranks and
layers draw other cores first and see the same rows in another order. ``--workers`` train so many
runs at once, each in a process of its own: a GPU has room for several small ones.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decoder_states import routing
from intervals import bits, interval, share
from lora_baseline import LoraSettings, train_lora
from lora_baseline import right_answers as lora_answers
from machine import describe
from recipe import Setting
from trials import Runs, added_job, judged_job, right_answers

from expertbank import AdapterConfig, TrainConfig
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.evaluation.statistics import p_beats_constant
from expertbank.training.expert import train_expert
from expertbank.tt.shape import DEFAULT_RANK

TASKS = ("sst2", "cola", "sick", "mrpc", "qnli", "rte")
PARTS = ("rates", "experts", "routing")
OURS, LORA, ONE = "TT-LoRA", "LoRA r=16", "LoRA r=1"
LADDERS = {
    OURS: (5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2),
    LORA: (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    ONE: (5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2),
}
"""Rates of a side in rising order; the second to the fourth are tried first."""


@dataclass(frozen=True)
class Wish:
    """One run.

    Attributes:
        task: name of the task.
        seed: draws rows, their order, and what is learnt from.
        side: of ``LADDERS``.
        rate: its peak learning rate.
        judged: on training rows that judge the rate; else on validation rows.
    """

    task: str
    seed: int
    side: str
    rate: float
    judged: bool


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    describe(options.seeds[0])
    bone = loaded(options)
    print(json.dumps({"backbone": bone.digest, "layers": len(bone.layers), "dtype": bone.dtype}))
    if {"rates", "experts"} & set(options.parts):
        with Trials(options, bone) as trials:
            chosen = rates(options, trials)
            if "experts" in options.parts:
                experts(options, trials, chosen)
    if "routing" in options.parts:
        with tempfile.TemporaryDirectory() as scratch:
            cache = options.cache or Path(scratch)
            cache.mkdir(parents=True, exist_ok=True)
            routing(options, bone, cache)


def loaded(options: argparse.Namespace) -> Backbone:
    """The backbone, on the device asked for, which tables alone do not need."""
    device = "cpu" if options.tables else options.device
    return load_backbone(options.backbone, dtype=options.dtype, device=device)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with one folder per task")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--backbone", required=True, help="a GGUF file, a folder or a Hub name")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--rows", type=int, default=1500, help="training rows a task")
    parser.add_argument("--eval-limit", type=int, default=400, help="validation rows a task")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--tt-rank", type=int, nargs="+", help="other ranks than the default")
    parser.add_argument("--route-layer", type=int, help="another one than the default")
    parser.add_argument("--sides", nargs="+", choices=LADDERS, default=[OURS, LORA])
    parser.add_argument("--rates", type=float, nargs="+", help="of the sides, chosen elsewhere")
    parser.add_argument("--rate-tasks", nargs="+", default=["sst2", "cola"])
    parser.add_argument("--rate-rows", type=int, default=600, help="training rows of a rate's run")
    parser.add_argument("--rate-judge", type=int, default=1000, help="other ones that judge it")
    parser.add_argument("--rate-epochs", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=96)
    parser.add_argument("--dtype", default="bfloat16", help="float32 or bfloat16, for all")
    parser.add_argument("--route-rows", type=int, default=250, help="training rows of routing")
    parser.add_argument("--route-eval", type=int, default=250, help="validation rows of routing")
    parser.add_argument("--default-states", action="store_true", help="route with no others")
    parser.add_argument("--cache", type=Path, help="folder that keeps routing features")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tables", action="store_true", help="of finished runs; train nothing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    out = Path(__file__).parent / "results" / "decoder.jsonl"
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args()
    if options.rates and len(options.rates) != len(options.sides):
        parser.error("as many --rates as --sides")
    if options.tt_rank:
        options.tt_rank = tuple(options.tt_rank) if options.tt_rank[1:] else options.tt_rank[0]
    return options


def named(wish: Wish, options: argparse.Namespace) -> str:
    """A side with all that it sets, defaults included: other defaults are other runs."""
    train = TrainConfig()
    lora = LoraSettings(wish.rate)
    adapter: dict[str, Any] = {"rank": lora.rank, "alpha": lora.alpha}
    if wish.side == ONE:
        adapter = {"rank": _adapter(wish, options).rank, "alpha": _adapter(wish, options).alpha}
    if wish.side == OURS:
        own = _adapter(wish, options)
        adapter = {"tt_rank": own.tt_rank, "alpha": own.alpha}
        if options.route_layer is not None and not wish.judged:
            adapter["route_layer"] = options.route_layer
    others = {"lr": wish.rate, "head_lr": train.head_lr, "weight_decay": train.weight_decay}
    return f"{wish.side}: {Setting(adapter, others).name}"


def _adapter(wish: Wish, options: argparse.Namespace) -> AdapterConfig:
    # Rates are chosen for the default ranks; and LoRA's batches are theirs, whatever is asked for.
    if wish.side == ONE:
        return AdapterConfig(kind="lora", rank=1)
    own = wish.side == OURS and not wish.judged
    return AdapterConfig(tt_rank=(own and options.tt_rank) or DEFAULT_RANK)


def trained(wish: Wish, options: argparse.Namespace, bone: Backbone) -> dict[str, Any]:
    """Train one side and let it answer the rows that judge it once."""
    epochs = options.rate_epochs if wish.judged else options.epochs
    how = {"epochs": epochs, "patience": epochs, "average_steps": 1}
    train = TrainConfig(seed=wish.seed, lr=wish.rate, **how)
    layer = options.route_layer if wish.side == OURS and not wish.judged else None
    spec = bone.default_feature_spec(
        route_layer=layer, max_length=options.max_length, dtype=options.dtype
    )
    where = wish.task, options.data / wish.task, bone, spec, _adapter(wish, options)
    if wish.judged:
        job, rows = judged_job(*where, train, options.rate_rows, options.rate_judge)
    else:
        job, rows = added_job(*where, replace(train, limit=options.rows), options.eval_limit)
    if wish.side == LORA:
        expert = train_lora(job, bone, LoraSettings(wish.rate))
        right = lora_answers(expert.backbone, expert.head_weight, expert.head_bias, rows)
    else:
        expert = train_expert(job, bone)
        right = right_answers(job, expert.file, rows, bone)
    targets = [row.target for row in rows]
    most, count = Counter(targets).most_common(1)[0]
    beaten = p_beats_constant([one == 1 for one in right], [one == most for one in targets])
    return {
        "side": wish.side,
        "rate": wish.rate,
        "params": expert.adapter_params,
        "selection": expert.selection_score,
        "best_epoch": expert.best_epoch,
        "seconds": round(expert.seconds, 3),
        "tokens": expert.tokens,
        "train_rows": len(job.train),
        "majority": count / len(rows),
        "p_beats_majority": beaten,
        "right": "".join(map(str, right)),
    }


class Trials:
    """Runs that are finished, and what finishes others, some at a time.

    Args:
        options: the command line.
        bone: the backbone.
    """

    def __init__(self, options: argparse.Namespace, bone: Backbone) -> None:
        self._options, self._bone = options, bone
        self._runs = {
            judged: Runs(options.out, self._conditions(*names))
            for judged, names in (
                (True, ("rate_rows", "rate_judge", "rate_epochs")),
                (False, ("rows", "eval_limit", "epochs")),
            )
        }
        self._pool = None
        if options.workers > 1:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(options.workers, spawn, _start, (options,))

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _conditions(self, *names: str) -> dict[str, Any]:
        """What decides the figures besides a run's key."""
        options = self._options
        chosen = {name: getattr(options, name) for name in (*names, "max_length", "dtype")}
        if options.device != "cpu":
            chosen["device"] = options.device
        return {**chosen, "backbone": self._bone.digest}

    def found(self, wish: Wish) -> dict[str, Any] | None:
        """The run, if it is finished."""
        key = wish.task, wish.seed, named(wish, self._options)
        return self._runs[wish.judged].by_key.get(key)

    def finish(self, wishes: Iterable[Wish]) -> None:
        """Train what is not finished."""
        left = [wish for wish in wishes if self.found(wish) is None and not self._options.tables]
        for wish, facts in self._trained(left):
            key = wish.task, wish.seed, named(wish, self._options)
            self._runs[wish.judged].add(key, facts)
            _tell(wish, facts)

    def _trained(self, wishes: Sequence[Wish]) -> Iterator[tuple[Wish, dict[str, Any]]]:
        if self._pool is None:
            for wish in wishes:
                yield wish, trained(wish, self._options, self._bone)
            return
        tasks = {self._pool.submit(_run, wish): wish for wish in wishes}
        for task in as_completed(tasks):
            yield tasks[task], task.result()


_HERE: list[tuple[argparse.Namespace, Backbone]] = []
"""What a process of the pool trains with."""


def _start(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    _HERE.append((options, loaded(options)))


def _run(wish: Wish) -> dict[str, Any]:
    return trained(wish, *_HERE[0])


def rates(options: argparse.Namespace, trials: Trials) -> dict[str, float]:
    """The rate of each side, chosen on training rows; of equal ones the lower."""
    if options.rates:
        return dict(zip(options.sides, options.rates, strict=True))

    def wishes(side: str, rate: float) -> list[Wish]:
        every = [(task, seed) for task in options.rate_tasks for seed in options.seeds]
        return [Wish(task, seed, side, rate, judged=True) for task, seed in every]

    ladders = {side: LADDERS[side] for side in options.sides}
    first = ((side, rate) for side, ladder in ladders.items() for rate in ladder[1:4])
    trials.finish(wish for side, rate in first for wish in wishes(side, rate))

    def judged(side: str, rate: float) -> float:
        """Mean accuracy on training rows that were neither trained on nor chose the epoch."""
        own = wishes(side, rate)
        trials.finish(own)
        return statistics.mean(share(run["right"]) for run in map(trials.found, own) if run)

    chosen, tables = {}, []
    for side, ladder in ladders.items():
        low, high = 1, 4
        found = {rate: judged(side, rate) for rate in ladder[low:high]}
        while True:
            best = max(sorted(found), key=lambda rate: found[rate])
            if best == ladder[low] and low > 0:
                low -= 1
                found[ladder[low]] = judged(side, ladder[low])
            elif best == ladder[high - 1] and high < len(ladder):
                found[ladder[high]] = judged(side, ladder[high])
                high += 1
            else:
                break
        chosen[side] = best
        tables.append(
            f"| {side} | {best:g} | "
            + ", ".join(f"{rate:g}: {found[rate]:.4f}" for rate in sorted(found))
            + " |"
        )
    print("\n| side | rate chosen | mean on judging training rows |\n|---|---|---|")
    print("\n".join(tables), flush=True)
    return chosen


def experts(options: argparse.Namespace, trials: Trials, chosen: Mapping[str, float]) -> None:
    """Train all sides on every task at their rates, and print the tables."""
    wishes = {
        (task, seed, side): Wish(task, seed, side, rate, judged=False)
        for seed in options.seeds
        for task in options.tasks
        for side, rate in chosen.items()
    }
    trials.finish(wishes.values())
    found = {key: run for key, wish in wishes.items() if (run := trials.found(wish))}
    for pair in ((OURS, LORA), (OURS, ONE), (ONE, LORA)):
        report(found, pair, options)


def _tell(wish: Wish, run: dict[str, Any]) -> None:
    part = "rates" if wish.judged else "experts"
    print(
        f"{part}: {wish.task}, {wish.side} at {wish.rate:g}, seed {wish.seed}: "
        f"{share(run['right']):.4f}, best of epoch {run['best_epoch']}, {run['seconds']:.0f} s, "
        f"{run['tokens'] / run['seconds']:.0f} tokens a second",
        flush=True,
    )


def report(
    runs: dict[tuple[str, int, str], dict[str, Any]],
    sides: tuple[str, str],
    options: argparse.Namespace,
) -> None:
    """Two sides' accuracy on every task, over the seeds that both have, and how far apart."""
    first, second = sides
    pairs: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for task, seed, side in runs:
        if side == second and (task, seed, first) in runs:
            pairs.setdefault(task, []).append((runs[task, seed, first], runs[task, seed, second]))
    if not pairs:
        return
    generator = np.random.default_rng(options.seeds[0])
    print(
        f"\n| task | rows | seeds | {first} | {second} | points | 95% | majority | p against it |"
    )
    print("|---" * 9 + "|")
    every, means = [], []
    for task, own in pairs.items():
        rights = [[pair[place]["right"] for pair in own] for place in (0, 1)]
        apart = 100 * (bits(rights[0]) - bits(rights[1]))
        every.append(apart)
        means.append([statistics.mean(map(share, side)) for side in rights])
        beaten = " / ".join(f"{run['p_beats_majority']:.1g}" for run in own[0])
        print(
            f"| {task} | {own[0][0]['train_rows']:,} | {len(own)} | {means[-1][0]:.4f} "
            f"| {means[-1][1]:.4f} | {apart.mean():+.2f} | {_ends([apart], generator)} "
            f"| {own[0][0]['majority']:.3f} | {beaten} |"
        )
    gap, ends = statistics.mean(float(one.mean()) for one in every), _ends(every, generator)
    whole = " | ".join(f"{statistics.mean(side):.4f}" for side in zip(*means, strict=True))
    print(f"| mean | | | {whole} | {gap:+.2f} | {ends} | | |")
    both = list(zip(*(pair for own in pairs.values() for pair in own), strict=True))
    params = [side[0]["params"] for side in both]
    print(f"\nadapter parameters {params[0]:,} and {params[1]:,}: {params[0] / params[1]:.1%}")
    for name, side in zip(sides, both, strict=True):
        seconds, tokens = (sum(run[what] for run in side) for what in ("seconds", "tokens"))
        epochs = ", ".join(str(run["best_epoch"]) for run in side)
        print(
            f"{name}: {seconds / 60:.0f} minutes of training, {tokens / seconds:.0f} tokens a "
            f"second, best of epochs {epochs}",
            flush=True,
        )


def _ends(differences: Sequence[np.ndarray], generator: np.random.Generator) -> str:
    low, high = interval(differences, generator)
    return f"{low:+.2f} to {high:+.2f}"


if __name__ == "__main__":
    main()
