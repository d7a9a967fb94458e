"""When to end training, and which epoch to keep: rules beside each other on the same runs.

Run it with: python examples/benchmarks/patience.py ../shared/data --dtype bfloat16

Experts are trained for all their epochs, whatever they gain. After each, held-out training rows
tell score and loss, as in `add`, and 1,000 *other training rows* judge; no validation row is read.
A rule sees only the former, epoch by epoch, and ends where it would have. Beside each rule stands
what it is worth next to the first, in points with the standard error over tasks and seeds, and
how many epochs a run takes. `best of all` looks at the judges and is no rule.

``--side default`` trains what `add` does, in place of a train of rank 5 whose head reads the mean.
One training is scored under several means of its weights: that of the last step, and running means
of ``STEPS/SLOPE`` (see ``RunningMean``). Each is held against the last step under the product's
rule on the same runs.

Every finished run is one line of ``--out`` and is not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from machine import describe
from trials import Runs, command_line, judged_job

from expertbank import AdapterConfig, TrainConfig
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.training import expert
from expertbank.training.average import RunningMean
from expertbank.training.held_out import HeldOut, fruitless
from expertbank.training.trunk import TrunkCache
from expertbank.tt.shape import DEFAULT_RANK

TASKS = ("sst2", "sick", "mrpc", "qnli", "mnli", "cola", "rte")
SIDES = {
    "TT-LoRA": AdapterConfig(tt_rank=DEFAULT_RANK, pooling="mean"),
    "default": AdapterConfig(),
}
LAST = "last step"
MEANS = {LAST: (1, 1), "50/2": (50, 2), "50/4": (50, 4), "50/8": (50, 8), "150/2": (150, 2)}
PRODUCT = "score or loss, patience 3"

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
    PRODUCT: by_score_or_loss(3),
    "score, patience 4": by_score(4),
    "score, patience 5": by_score(5),
    "all epochs, best score": by_score(10**6),
    "all epochs, best score, the last of equals": lambda epochs: (
        max(range(len(epochs)), key=lambda n: (epochs[n][0].score, n)),
        len(epochs),
    ),
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
    parser.add_argument("--side", choices=SIDES, default="default")
    parser.add_argument("--means", nargs="+", choices=MEANS, default=list(MEANS))
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
            tried = {mean: f"{options.side}, {mean}" for mean in options.means}
            if missing := [m for m, own in tried.items() if (task, seed, own) not in runs.by_key]:
                began = time.monotonic()
                for mean, epochs in trained(task, seed, missing, backbone, options).items():
                    runs.add((task, seed, tried[mean]), {"epochs": epochs})
                print(f"{task}, seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
    for mean in options.means:
        there = {
            (task, seed): (run, base)
            for task in options.tasks
            for seed in options.seeds
            if (run := runs.by_key.get((task, seed, f"{options.side}, {mean}")))
            and (base := runs.by_key.get((task, seed, f"{options.side}, {LAST}")))
        }
        if there:
            print(f"\n{options.side}, {mean}\n")
            base = {place: judged(last, RULES[PRODUCT])[0] for place, (_, last) in there.items()}
            report({place: run for place, (run, _) in there.items()}, base, options.tasks)


def trained(
    task: str, seed: int, means: Sequence[str], backbone: Backbone, options: argparse.Namespace
) -> dict[str, list[tuple[float, float, float]]]:
    """By mean and epoch: held-out score, held-out loss, share of judges that are right."""
    spec = backbone.default_feature_spec(max_length=options.max_length, dtype=options.dtype)
    train = TrainConfig(seed=seed, patience=TrainConfig().epochs)
    sizes = options.rows, options.judge
    place = options.data / task
    job, judges = judged_job(task, place, backbone, spec, SIDES[options.side], train, *sizes)
    found: dict[str, list[tuple[float, float, float]]] = {mean: [] for mean in means}
    cache: list[TrunkCache] = []
    measure = expert._measure
    own: dict[str, RunningMean] = {}

    class Several(RunningMean):
        """Leaves the parameters as they are, and takes each step into every mean."""

        def __init__(self, parameters: Mapping[str, torch.Tensor], steps: int) -> None:
            super().__init__(parameters, steps)
            own.update({mean: RunningMean(parameters, *MEANS[mean]) for mean in means})

        def update(self) -> None:
            for one in own.values():
                one.update()

        def in_place(self) -> AbstractContextManager[None]:
            return nullcontext()

    def measured(student: Any, rows: Any, held_out: Any) -> Any:
        if not cache:
            every = range(len(judges))
            cache.append(TrunkCache(student.view, judges, every, lambda *_: None))
        for mean, one in own.items():
            with one.in_place():
                now, thresholds = measure(student, rows, held_out)
                right, _ = measure(student, judges, cache[0])
            found[mean].append((now.score, now.loss, right.score))
        return now, thresholds

    expert._measure, expert.RunningMean = measured, Several
    try:
        expert.train_expert(job, backbone)
    finally:
        expert._measure, expert.RunningMean = measure, RunningMean
    return found


ByPlace = dict[tuple[str, int], dict[str, Any]]
"""By task and seed."""


def report(runs: ByPlace, base: dict[tuple[str, int], float], tasks: Sequence[str]) -> None:
    """The table of rules, over the runs that are there, in points against ``base``."""
    there = [task for task in tasks if any(task == own for own, _ in runs)]
    print(f"\n| rule | {' | '.join(there)} | mean | points | error | epochs | runs |")
    print("|---" * (len(there) + 6) + "|")
    for name, rule in RULES.items():
        found = {place: judged(run, rule) for place, run in runs.items()}
        gaps = [100 * (right - base[place]) for place, (right, _) in found.items()]
        error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.inf
        means = [
            statistics.mean(right for (own, _), (right, _) in found.items() if own == task)
            for task in there
        ]
        cells = " | ".join(f"{mean:.3f}" for mean in means)
        epochs = statistics.mean(length for _, length in found.values())
        print(
            f"| {name} | {cells} | {statistics.mean(means):.4f} | {statistics.mean(gaps):+.2f} "
            f"| {error:.2f} | {epochs:.1f} | {len(runs)} |"
        )


def judged(run: dict[str, Any], rule: Rule) -> tuple[float, int]:
    """The share of judges that are right in the epoch that a rule keeps, and how many it takes."""
    epochs = [(HeldOut(score, loss), share) for score, loss, share in run["epochs"]]
    kept, length = rule(epochs)
    return epochs[kept][1], length


if __name__ == "__main__":
    main()
