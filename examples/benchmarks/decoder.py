"""A real decoder as backbone: experts beside LoRA r=16, and which states route best in it.

Run it with: python examples/benchmarks/decoder.py DATA --backbone MODEL.gguf [--parts PART ...]

Needs peft, and package gguf for a GGUF file. Parts, default all: ``rates`` chooses one rate a side,
``experts`` does so and trains both sides on every task, ``routing`` is of ``decoder_states.py``.

Both sides see the same training rows in the same batches with the same head, head start, optimiser
and number of epochs, and choose the epoch on the same held-out training rows; see
``lora_baseline.py``. LoRA acts on query and value of all layers, TT-LoRA has the product's defaults
but for rate and epochs. Rates are chosen by the mean over ``--rate-tasks`` on other training rows.
Three are tried a side; where the best stands at the edge of those tried, the next one beyond is
tried too; ``--rates`` takes those chosen elsewhere. Validation rows choose nothing and are answered
once.

Intervals are those of ``intervals.py``; against the majority class stands the product's one-sided
exact McNemar test. Every finished run is one line of ``--out`` and is not repeated. Tasks follow
one another with both sides, so that a stop leaves whole pairs; the table is of whole pairs.
``--tt-rank`` is of ``experts`` alone: rates stay those of the default ranks, and LoRA's runs and
their batches too. Other ranks draw other cores first and see the same rows in another order.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
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
from expertbank.adapters.tt import DEFAULT_TT_RANK
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.evaluation.statistics import p_beats_constant
from expertbank.records import EncodedRow
from expertbank.training.expert import ExpertJob, train_expert

TASKS = ("sst2", "cola", "sick", "mrpc", "qnli", "rte")
PARTS = ("rates", "experts", "routing")
OURS, LORA = "TT-LoRA", "LoRA r=16"
LADDERS = {
    OURS: (5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2),
    LORA: (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
}
"""Rates of a side in rising order; the second to the fourth are tried first."""


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    describe(options.seed)
    bone = load_backbone(options.backbone, dtype=options.dtype)
    print(json.dumps({"backbone": bone.digest, "layers": len(bone.layers), "dtype": bone.dtype}))
    if {"rates", "experts"} & set(options.parts):
        chosen = Rates(options, bone).choose()
        if "experts" in options.parts:
            experts(options, bone, chosen)
    if "routing" in options.parts:
        with tempfile.TemporaryDirectory() as scratch:
            cache = options.cache or Path(scratch)
            cache.mkdir(parents=True, exist_ok=True)
            routing(options, bone, cache)


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
    parser.add_argument(
        "--rates", type=float, nargs=2, metavar=("TT", "LORA"), help="chosen on another backbone"
    )
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
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    out = Path(__file__).parent / "results" / "decoder.jsonl"
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args()
    if options.tt_rank:
        options.tt_rank = tuple(options.tt_rank) if options.tt_rank[1:] else options.tt_rank[0]
    return options


def named(side: str, rate: float, wish: AdapterConfig) -> str:
    """A side with all that it sets, defaults included: other defaults are other runs."""
    train = TrainConfig()
    lora = LoraSettings(rate)
    adapter = (
        {"tt_rank": wish.tt_rank or DEFAULT_TT_RANK, "alpha": wish.alpha}
        if side == OURS
        else {"rank": lora.rank, "alpha": lora.alpha}
    )
    others = {"lr": rate, "head_lr": train.head_lr, "weight_decay": train.weight_decay}
    return f"{side}: {Setting(adapter, others).name}"


def conditions_of(options: argparse.Namespace, bone: Backbone, *names: str) -> dict[str, Any]:
    """What decides the figures besides a run's key."""
    chosen = {name: getattr(options, name) for name in (*names, "max_length", "dtype")}
    return {**chosen, "backbone": bone.digest}


def trained(
    side: str, job: ExpertJob, rows: Sequence[EncodedRow], bone: Backbone
) -> dict[str, Any]:
    """Train one side and let it answer ``rows`` once."""
    rate = job.config.lr
    if side == OURS:
        expert = train_expert(job, bone)
        right = right_answers(job, expert.file, rows, bone)
    else:
        expert = train_lora(job, bone, LoraSettings(rate))
        right = lora_answers(expert.backbone, expert.head_weight, expert.head_bias, rows)
    targets = [row.target for row in rows]
    most, count = Counter(targets).most_common(1)[0]
    beaten = p_beats_constant([one == 1 for one in right], [one == most for one in targets])
    return {
        "side": side,
        "rate": rate,
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


class Rates:
    """The rate of each side, chosen on training rows.

    Args:
        options: the command line.
        bone: the backbone.
    """

    def __init__(self, options: argparse.Namespace, bone: Backbone) -> None:
        conditions = conditions_of(options, bone, "rate_rows", "rate_judge", "rate_epochs")
        self.options, self.bone = options, bone
        self.runs = Runs(options.out, conditions)

    def choose(self) -> dict[str, float]:
        """One rate a side; of equal ones the lower."""
        if self.options.rates:
            return dict(zip(LADDERS, self.options.rates, strict=True))
        chosen, tables = {}, []
        for side, ladder in LADDERS.items():
            low, high = 1, 4
            found = {rate: self.judged(side, rate) for rate in ladder[low:high]}
            while True:
                best = max(sorted(found), key=lambda rate: found[rate])
                if best == ladder[low] and low > 0:
                    low -= 1
                    found[ladder[low]] = self.judged(side, ladder[low])
                elif best == ladder[high - 1] and high < len(ladder):
                    found[ladder[high]] = self.judged(side, ladder[high])
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

    def judged(self, side: str, rate: float) -> float:
        """Mean accuracy on training rows that were neither trained on nor chose the epoch."""
        options, shares = self.options, []
        for task in options.rate_tasks:
            key = (task, options.seed, named(side, rate, AdapterConfig()))
            if key not in self.runs.by_key:
                spec = self.bone.default_feature_spec(
                    max_length=options.max_length, dtype=options.dtype
                )
                epochs = options.rate_epochs
                train = TrainConfig(epochs=epochs, patience=epochs, seed=options.seed, lr=rate)
                wish = AdapterConfig(), train, options.rate_rows, options.rate_judge
                job, rows = judged_job(task, options.data / task, self.bone, spec, *wish)
                self.runs.add(key, trained(side, job, rows, self.bone))
                _tell("rates", self.runs.by_key[key])
            shares.append(share(self.runs.by_key[key]["right"]))
        return statistics.mean(shares)


def experts(options: argparse.Namespace, bone: Backbone, rates: Mapping[str, float]) -> None:
    """Train both sides on every task at their rates, and print the table."""
    runs = Runs(options.out, conditions_of(options, bone, "rows", "eval_limit", "epochs"))
    spec = bone.default_feature_spec(max_length=options.max_length, dtype=options.dtype)
    keys = {}
    for task in options.tasks:
        for side, rate in rates.items():
            # LoRA's batches are those of the default ranks, whatever is asked for.
            wish = AdapterConfig(tt_rank=options.tt_rank) if side == OURS else AdapterConfig()
            key = keys[task, side] = (task, options.seed, named(side, rate, wish))
            if key in runs.by_key:
                continue
            train = TrainConfig(
                epochs=options.epochs,
                patience=options.epochs,
                limit=options.rows,
                seed=options.seed,
                lr=rate,
            )
            how = wish, train, options.eval_limit
            job, rows = added_job(task, options.data / task, bone, spec, *how)
            runs.add(key, trained(side, job, rows, bone))
            _tell("experts", runs.by_key[key])
    report({key: runs.by_key[name] for key, name in keys.items()}, options.seed)


def _tell(part: str, run: dict[str, Any]) -> None:
    print(
        f"{part}: {run['task']}, {run['side']} at {run['rate']:g}: {share(run['right']):.4f}, "
        f"best of epoch {run['best_epoch']}, {run['seconds']:.0f} s, "
        f"{run['tokens'] / run['seconds']:.0f} tokens a second",
        flush=True,
    )


def report(runs: dict[tuple[str, str], dict[str, Any]], seed: int) -> None:
    """Both sides' accuracy on every task that both have, and how far they are apart."""
    tasks = [task for task, side in runs if side == LORA and (task, OURS) in runs]
    if not tasks:
        return
    generator = np.random.default_rng(seed)
    print(f"\n| task | rows | {OURS} | {LORA} | points | 95% | majority | p against it |")
    print("|---|---|---|---|---|---|---|---|")
    every = []
    for task in tasks:
        both = [runs[task, side] for side in (OURS, LORA)]
        apart = 100 * (bits([both[0]["right"]]) - bits([both[1]["right"]]))
        every.append(apart)
        shares = " | ".join(f"{share(run['right']):.4f}" for run in both)
        beaten = " / ".join(f"{run['p_beats_majority']:.1g}" for run in both)
        print(
            f"| {task} | {both[0]['train_rows']:,} | {shares} | {apart.mean():+.2f} "
            f"| {_ends([apart], generator)} | {both[0]['majority']:.3f} | {beaten} |"
        )
    means = [
        statistics.mean(share(runs[task, side]["right"]) for task in tasks) for side in LADDERS
    ]
    gap, ends = statistics.mean(one.mean() for one in every), _ends(every, generator)
    print(f"| mean | | {means[0]:.4f} | {means[1]:.4f} | {gap:+.2f} | {ends} | | |")
    params = [runs[tasks[0], side]["params"] for side in LADDERS]
    print(f"\nadapter parameters {params[0]:,} and {params[1]:,}: {params[0] / params[1]:.1%}")
    for side in LADDERS:
        own = [runs[task, side] for task in tasks]
        seconds, tokens = (sum(run[what] for run in own) for what in ("seconds", "tokens"))
        epochs = ", ".join(str(run["best_epoch"]) for run in own)
        print(
            f"{side}: {seconds / 60:.0f} minutes of training, {tokens / seconds:.0f} tokens a "
            f"second, best of epochs {epochs}",
            flush=True,
        )


def _ends(differences: Sequence[np.ndarray], generator: np.random.Generator) -> str:
    low, high = interval(differences, generator)
    return f"{low:+.2f} to {high:+.2f}"


if __name__ == "__main__":
    main()
