"""When to end training, and which epoch to keep: rules beside each other on the same runs.

Run it with: python examples/benchmarks/patience.py ../shared/data --dtype bfloat16

Experts are trained for all their epochs, whatever they gain. After each, held-out training rows
tell score and loss, as in `add`, and 1,000 *other training rows* judge; no validation row is read.
A rule sees only the former, epoch by epoch, and ends where it would have. Beside each rule stands
what it is worth next to the one before, in points with the standard error over tasks and seeds,
and how many epochs a run takes. `best of all` looks at the judges and is no rule. ``--side
default`` trains what `add` does, in place of a train of rank 5 whose head reads the mean.

Every finished run is one line of ``--out`` and is not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from machine import describe
from trials import Runs, command_line, judged_job

from expertbank import AdapterConfig, TrainConfig
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.training import expert
from expertbank.training.held_out import HeldOut, fruitless
from expertbank.training.trunk import TrunkCache
from expertbank.tt.shape import DEFAULT_RANK

TASKS = ("sst2", "sick", "mrpc", "qnli", "mnli", "cola", "rte")
SIDES = {
    "TT-LoRA": AdapterConfig(tt_rank=DEFAULT_RANK, pooling="mean"),
    "default": AdapterConfig(),
}

Epochs = list[tuple[HeldOut, float]]
"""By epoch: the held-out rows, and the share of judges that are right."""

Rule = Callable[[Epochs], tuple[int, int]]
"""The epoch that is kept, from 0, and how many are trained."""


def by_score(patience: int) -> Rule:
    """Ends after so many epochs without a better score."""
    return lambda epochs: _ended(epochs, lambda curve: len(curve) - 1 - _best(curve), patience)


def by_score_or_loss(patience: int) -> Rule:
    """Ends after so many epochs with neither a better score nor a lower loss: the product's."""
    return lambda epochs: _ended(epochs, fruitless, patience)


def smoothed(epochs: Epochs) -> tuple[int, int]:
    """All epochs; keeps that around which the mean of three scores is highest."""
    scores = [now.score for now, _ in epochs]
    means = [statistics.mean(scores[max(0, n - 1) : n + 2]) for n in range(len(scores))]
    return means.index(max(means)), len(epochs)


RULES: dict[str, Rule] = {
    "score, patience 3": by_score(3),
    "score or loss, patience 3": by_score_or_loss(3),
    "score, patience 4": by_score(4),
    "score, patience 5": by_score(5),
    "all epochs, best score": by_score(10**6),
    "all epochs, lowest loss": lambda epochs: (
        min(range(len(epochs)), key=lambda n: epochs[n][0].loss),
        len(epochs),
    ),
    "all epochs, smoothed score": smoothed,
    "all epochs, the last": lambda epochs: (len(epochs) - 1, len(epochs)),
    "best of all": lambda epochs: (
        max(range(len(epochs)), key=lambda n: epochs[n][1]),
        len(epochs),
    ),
}


def _best(curve: Sequence[HeldOut]) -> int:
    return max(range(len(curve)), key=lambda n: (curve[n].score, -curve[n].loss))


def _ended(
    epochs: Epochs, idle: Callable[[Sequence[HeldOut]], int], patience: int
) -> tuple[int, int]:
    curve: list[HeldOut] = []
    for now, _ in epochs:
        curve.append(now)
        if idle(curve) >= patience:
            break
    return _best(curve), len(curve)


def main() -> None:
    parser = command_line(__doc__, "patience", TASKS)
    parser.add_argument("data", type=Path, help="folder with one folder per task")
    parser.add_argument("--judge", type=int, default=1000, help="rows a task that judge")
    parser.add_argument("--side", choices=SIDES, default="TT-LoRA")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    describe(options.seeds[0])
    names = ("rows", "judge", "max_length", "dtype", "backbone")
    conditions = {name: getattr(options, name) for name in names}
    print(json.dumps(conditions), flush=True)
    runs = Runs(options.out, conditions)
    backbone = load_backbone(options.backbone, dtype=options.dtype)
    for seed in options.seeds:
        for task in options.tasks:
            if (task, seed, options.side) not in runs.by_key:
                began = time.monotonic()
                epochs = trained(task, seed, backbone, options)
                facts = {"epochs": epochs, "seconds": round(time.monotonic() - began, 1)}
                runs.add((task, seed, options.side), facts)
                print(f"{task}, seed {seed}: {facts['seconds']:.0f} s", flush=True)
    there = [run for (_, _, side), run in runs.by_key.items() if side == options.side]
    report([run for run in there if run["task"] in options.tasks], options.tasks)


def trained(
    task: str, seed: int, backbone: Backbone, options: argparse.Namespace
) -> list[tuple[float, float, float]]:
    """By epoch: held-out score, held-out loss, share of judges that are right."""
    spec = backbone.default_feature_spec(max_length=options.max_length, dtype=options.dtype)
    train = TrainConfig(seed=seed, patience=TrainConfig().epochs)
    sizes = options.rows, options.judge
    place = options.data / task
    job, judges = judged_job(task, place, backbone, spec, SIDES[options.side], train, *sizes)
    found: list[tuple[float, float, float]] = []
    cache: list[TrunkCache] = []
    measure = expert._measure

    def judged(student: Any, rows: Any, held_out: Any) -> Any:
        now, thresholds = measure(student, rows, held_out)
        if not cache:
            every = range(len(judges))
            cache.append(TrunkCache(student.view, judges, every, lambda *_: None))
        right, _ = measure(student, judges, cache[0])
        found.append((now.score, now.loss, right.score))
        return now, thresholds

    expert._measure = judged
    try:
        expert.train_expert(job, backbone)
    finally:
        expert._measure = measure
    return found


def report(runs: Sequence[dict[str, Any]], tasks: Sequence[str]) -> None:
    """The table of rules, over the runs that are there."""
    there = [task for task in tasks if any(run["task"] == task for run in runs)]
    print(f"\n| rule | {' | '.join(there)} | mean | points | error | epochs | runs |")
    print("|---" * (len(there) + 6) + "|")
    before: list[float] = []
    for name, rule in RULES.items():
        right: dict[str, list[float]] = {task: [] for task in there}
        lengths, values = [], []
        for run in runs:
            epochs = [(HeldOut(score, loss), share) for score, loss, share in run["epochs"]]
            kept, length = rule(epochs)
            right[run["task"]].append(epochs[kept][1])
            values.append(epochs[kept][1])
            lengths.append(length)
        before = before or values
        gaps = [100 * (one - other) for one, other in zip(values, before, strict=True)]
        error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.inf
        means = [statistics.mean(own) for own in right.values()]
        cells = " | ".join(f"{mean:.3f}" for mean in means)
        print(
            f"| {name} | {cells} | {statistics.mean(means):.4f} | {statistics.mean(gaps):+.2f} "
            f"| {error:.2f} | {statistics.mean(lengths):.1f} | {len(runs)} |"
        )


if __name__ == "__main__":
    main()
