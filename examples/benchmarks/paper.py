"""The paper's tables: parameters of every kind of adapter, and single tasks side by side.

Run it with: python examples/benchmarks/paper.py ../shared/data --dtype bfloat16

Sides see the same training rows, hold out the same ones to choose the checkpoint, begin with the
same head, and are trained by the same code with the same epochs and patience. Rates were chosen
by ``recipe.py`` on training rows, for each side one for all tasks; validation rows choose nothing
and are answered once. LoRA of rank 16 acts at full depth, as do sides that say so, the others in
the branch. The head alone, on the backbone as it is, shows what a task needs no adapter for.

Intervals are those of ``intervals.py``. TT-LoRA is not worse than a side if
the lower end is above the margin. Every finished run is one line of ``--out`` and is not repeated;
the tables are of all runs that are there under the same conditions, each pair of sides on the seeds
that both have. Of Pfeiffer adapters and AdapterFusion, which need another library, only parameters
are counted here; ``fusion.py`` trains them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from intervals import bits, interval, share
from machine import describe
from recipe import Setting
from trials import PATIENCE_OF, Key, Runs, added_job, command_line, right_answers, table_row

from expertbank import AdapterConfig, TrainConfig, task_spec
from expertbank.adapters.adapter import DEFAULT_RATE
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.config import MANY_ROWS, NO_ADAPTER
from expertbank.models.expert_file import ExpertFile
from expertbank.training.expert import train_expert
from expertbank.training.head import fit_head
from expertbank.training.job import ExpertJob
from expertbank.training.student import pooling_of
from expertbank.tt import TTShape
from expertbank.tt.shape import DEFAULT_RANK

TASKS = ("sst2", "mrpc", "sick", "cola", "rte", "qnli", "mnli")
OURS = "default"
MEAN = {"pooling": "mean"}
LORA_16: dict[str, Any] = {"kind": "lora", "rank": 16, "alpha": 2.0}
LAST: dict[str, Any] = {"average_steps": 1}
FULL_DEPTH: tuple[dict[str, Any], ...] = ({"lr": 1e-3, **LAST}, {"route_layer": 0})
SIDES = {
    OURS: Setting(),
    "default, rank 1": Setting({}, {"lr": DEFAULT_RATE}),
    "default, full depth": Setting({"first_layer": 0}),
    "default, last step": Setting({}, LAST),
    "default, mean": Setting(MEAN, LAST),
    "TT-LoRA": Setting({"tt_rank": DEFAULT_RANK, **MEAN}, LAST),
    "LoRA r=16": Setting({**LORA_16, **MEAN}, *FULL_DEPTH),
    "LoRA r=16, pair": Setting(LORA_16, *FULL_DEPTH),
    "LoRA r=16, as ours": Setting(LORA_16, {"lr": 1e-3}, {"route_layer": 0}),
    "LoRA r=1": Setting({"kind": "lora", "rank": 1, **MEAN}, {"lr": 2e-3, **LAST}),
    "LoRA r=1, inner": Setting(
        {"kind": "lora", "rank": 1, "modules": ("intermediate.dense",), **MEAN},
        {"lr": 2e-3, **LAST},
    ),
    "Uni-LoRA": Setting({"kind": "uni-lora", **MEAN}, LAST),
    "head alone": Setting({"kind": NO_ADAPTER, **MEAN}, LAST),
    "head alone, pair": Setting({"kind": NO_ADAPTER}, LAST),
}
"""What is compared; what a side does not set is the product's default.

Heads read the mean of the last states, but where nothing is said and rows have two texts, ``pair``.
What is kept is the weights of the last step of an epoch, but of ``default`` and of what is trained
``as ours`` their running mean; a head alone has no other.

With few rows ``default`` has rank 1, with many rank 4 and a lower rate; ``rank 1`` keeps both.

``inner`` acts on the first projection of each layer's feed-forward part, where ``recipe.py`` found
the best adapter of at most 6% of LoRA's numbers on training rows (stage ``places``).
"""
MARGIN = 0.5
TRAINS = {
    f"TT-LoRA {DEFAULT_RANK}": partial(TTShape.of, rank=DEFAULT_RANK),
    OURS: TTShape.by_width,
}
"""Shapes of tensor trains by what they are called."""


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    describe(options.seed)
    parameters()
    names = ("rows", "eval_limit", "max_length", "dtype", "backbone")
    conditions = {name: getattr(options, name) for name in names} | {"patience": PATIENCE_OF}
    print(f"\n{json.dumps(conditions)}", flush=True)
    runs = Runs(options.out, conditions)
    backbone = load_backbone(options.backbone, dtype=options.dtype)
    everything = [(s, t, n) for s in options.seeds for t in options.tasks for n in options.sides]
    for place, (seed, task, side) in enumerate(everything, start=1):
        key = task, seed, named(side, task, options.rows)
        if key not in runs.by_key:
            one_run(runs, key, side, backbone, options)
            found = runs.by_key[key]
            print(
                f"{place}/{len(everything)} {task}, seed {seed}, {side}: "
                f"{share(found['right']):.4f}, best of epoch {found['best_epoch']}, "
                f"{found['seconds']:.0f} s",
                flush=True,
            )
    report(runs, options)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, "paper", TASKS)
    parser.add_argument("data", type=Path, nargs="+", help="folders with one folder per task")
    parser.add_argument("--eval-limit", type=int, default=1000, help="validation rows a task")
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    return parser.parse_args()


def named(side: str, task: str, rows: int = 0) -> str:
    """A side with all that it sets, defaults included: other defaults are other runs.

    Where there are many ``rows`` the defaults go by them, and are named so.

    What heads read is named where it is not the mean, and over how many steps weights are averaged
    where that is more than one; runs of before had no other.
    """
    setting, train = SIDES[side], TrainConfig()
    kept = {"kind", "tt_rank", "lr"} & {*setting.adapter, *setting.train}
    by_rows = rows >= MANY_ROWS and not kept
    chosen = {n: getattr(train, n) for n in ("epochs", "patience", "head_lr", "weight_decay")}
    own = {"lr": "by rows" if by_rows else DEFAULT_RATE, **setting.train}
    if (steps := own.pop("average_steps", train.average_steps)) > 1:
        own["average_steps"] = steps
    adapter = {name: one for name, one in setting.adapter.items() if name != "pooling"}
    if not adapter.keys() & {"kind", "tt_rank"}:
        adapter |= {"tt_rank": "by width and rows" if by_rows else "by width"}
    if "pooling" not in setting.adapter and two_texts(task):
        adapter |= {"pooling": "pair"}
    return Setting(adapter, {**chosen, **own}, setting.spec).name


def two_texts(task: str) -> bool:
    """Whether its rows are read as pairs."""
    columns = task_spec(task).columns
    return columns.text_pair is not None and not columns.choices


def one_run(
    runs: Runs, key: Key, side: str, backbone: Backbone, options: argparse.Namespace
) -> None:
    """Train one side and let it answer the validation rows once."""
    setting, (task, seed, _) = SIDES[side], key
    given = {"max_length": options.max_length, "dtype": options.dtype, **setting.spec}
    spec = backbone.default_feature_spec(**given)
    train = TrainConfig(seed=seed, limit=options.rows, **setting.train)
    wish = AdapterConfig(**setting.adapter)
    place = next(one / task for one in options.data if (one / task).is_dir())
    job, rows = added_job(task, place, backbone, spec, wish, train, options.eval_limit)
    started = time.monotonic()
    file, facts = (head_alone if wish.kind == NO_ADAPTER else adapter_and_head)(job, backbone)
    facts |= {"seconds": round(time.monotonic() - started, 1), "train_rows": len(job.train)}
    right = "".join(map(str, right_answers(job, file, rows, backbone)))
    runs.add(key, {"side": side, **facts, "right": right})


def adapter_and_head(job: ExpertJob, backbone: Backbone) -> tuple[ExpertFile, dict[str, object]]:
    """An expert as `add` trains it, and what is told of it."""
    expert = train_expert(job, backbone)
    return expert.file, {
        "params": expert.adapter_params,
        "selection": expert.selection_score,
        "best_epoch": expert.best_epoch,
        "tokens": expert.tokens,
    }


def head_alone(job: ExpertJob, backbone: Backbone) -> tuple[ExpertFile, dict[str, object]]:
    """A head on the backbone as it is, with the same start, epochs and patience."""
    pooling = pooling_of(job, backbone)
    head = fit_head(job, {}, pooling, backbone)
    digests = job.spec.digest, backbone.digest
    file = ExpertFile(
        job.task, job.kind, job.labels, NO_ADAPTER, {}, 1.0, *digests, head.tensors, pooling
    )
    return file, {
        "params": 0,
        "selection": head.score,
        "best_epoch": head.best_epoch,
        "tokens": head.tokens,
    }


def report(runs: Runs, options: argparse.Namespace) -> None:
    """The table of tasks, and each side's distance from ours on the seeds that both have."""
    seeds = sorted({seed for _, seed, _ in runs.by_key})

    def name(side: str, task: str) -> str:
        return named(side, task, options.rows)

    every = [t for t in options.tasks if any((t, s, name(OURS, t)) in runs.by_key for s in seeds)]
    sides = [s for s in SIDES if s == OURS or any(name(s, t) != name(OURS, t) for t in every)]

    def of(task: str, *both: str) -> list[list[str]]:
        """By side the answers on every seed that all sides have."""
        keys = [[(task, seed, name(side, task)) for side in both] for seed in seeds]
        whole = [own for own in keys if all(key in runs.by_key for key in own)]
        return [[runs.by_key[own[place]]["right"] for own in whole] for place in range(len(both))]

    table_row("side", ["numbers", *every, "mean", "runs", "minutes"])
    print("|---" * (len(every) + 5) + "|")
    for side in sides:
        own = {task: of(task, side)[0] for task in every}
        done = [run for (t, _, tried), run in runs.by_key.items() if tried == name(side, t)]
        if not every or not done or not all(own.values()):
            continue
        means = [statistics.mean(map(share, answers)) for answers in own.values()]
        figures = [f"{mean:.4f}" for mean in (*means, statistics.mean(means))]
        minutes = sum(run["seconds"] for run in done) / 60
        table_row(side, [f"{done[0]['params']:,}", *figures, len(done), f"{minutes:.0f}"])
    print()
    table_row(f"{OURS} against", [*every, "points", "95%", f"not worse by {MARGIN}", "runs"])
    print("|---" * (len(every) + 5) + "|")
    for side in sides:
        pairs = {task: of(task, OURS, side) for task in every}
        if side == OURS or not every or not all(ours for ours, _ in pairs.values()):
            continue
        generator = np.random.default_rng(options.seed)
        apart = [100 * (bits(ours) - bits(theirs)) for ours, theirs in pairs.values()]
        gaps = [float(one.mean()) for one in apart]
        low, high = interval(apart, generator)
        verdict = "shown" if low > -MARGIN else "not shown"
        count = "+".join(str(len(one)) for one in apart)
        cells = [*(f"{gap:+.1f}" for gap in gaps), f"{statistics.mean(gaps):+.2f}"]
        table_row(side, [*cells, f"{low:+.2f} to {high:+.2f}", verdict, count])


def parameters() -> None:
    """Numbers of one expert of a task, head left out, on query and value.

    Pfeiffer adapters: down and up projections with biases after each layer, reduction 16.
    AdapterFusion: query, key and value matrices in each layer, the first two with biases
    (Pfeiffer et al., EACL 2021, and its code); of all tasks together.
    """
    shapes = {
        "MiniLM, branch": (384, [(384, 384), (384, 384)], 4),
        "MiniLM, full depth": (384, [(384, 384), (384, 384)], 6),
        "LLaMA-3.2-1B, full depth": (2048, [(2048, 2048), (2048, 512)], 16),
    }
    print("| kind | " + " | ".join(shapes) + " |")
    print("|---" * (len(shapes) + 1) + "|")
    for rank in (16, 1):
        counts = [d * sum(rank * (m + n) for m, n in sides) for _, sides, d in shapes.values()]
        _counts(f"LoRA r={rank}", counts)
    for name, shape_of in TRAINS.items():
        counts = [
            d * sum(shape_of(m, n).parameters for m, n in sides) for _, sides, d in shapes.values()
        ]
        _counts(name, counts)
    _counts("Pfeiffer", [d * (2 * w * (w // 16) + w // 16 + w) for w, _, d in shapes.values()])
    _counts("AdapterFusion", [d * (3 * w * w + 2 * w) for w, _, d in shapes.values()])


def _counts(kind: str, counts: Sequence[int]) -> None:
    table_row(kind, [f"{count:,}" for count in counts])


if __name__ == "__main__":
    main()
