"""When to end training, and which epoch to keep: rules beside each other on the same runs.

Run it with: python examples/benchmarks/patience.py ../shared/data --dtype bfloat16

Experts are trained for all their epochs, whatever they gain. After each, held-out training rows
tell score and loss, as in `add`, and 1,000 *other training rows* judge; no validation row is read.
A rule sees only the former, epoch by epoch, and ends where it would have. Beside each rule stands
what it is worth next to the one before, in points with the standard error over tasks and seeds, and
how many epochs a run takes. `best of all` looks at the judges and is no rule. ``--side default``
trains what `add` does, in place of a train of rank 5 whose head reads the mean; ``--side "running
mean"`` the same, but what is scored and kept is not the weights of a step but their running mean,
in which those of fifty steps before count a third. Its rules are held against the product's on the
runs of ``default`` with the same tasks and seeds.

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
MEAN = "running mean"
SIDES = {
    "TT-LoRA": AdapterConfig(tt_rank=DEFAULT_RANK, pooling="mean"),
    "default": AdapterConfig(),
    MEAN: AdapterConfig(),
}
DECAY = 0.98
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
    there = {
        (task, seed): run
        for (task, seed, side), run in runs.by_key.items()
        if side == options.side and task in options.tasks and seed in options.seeds
    }
    before = next(iter(RULES.values()))
    base = {place: judged(run, before)[0] for place, run in there.items()}
    if options.side == MEAN:
        others = {place: runs.by_key.get((*place, "default")) for place in there}
        there = {place: run for place, run in there.items() if others[place]}
        base = {place: judged(run, RULES[PRODUCT])[0] for place, run in others.items() if run}
    report(there, base, options.tasks)


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
    measure, optimise = expert._measure, expert.optimise
    mean: dict[Any, torch.Tensor] = {}

    def averaged(*given: Any, **more: Any) -> None:
        def after_step(optimiser: torch.optim.Optimizer, _: int) -> None:
            for group in optimiser.param_groups:
                for own in group["params"]:
                    now = own.detach().clone()
                    mean[own] = mean[own] * DECAY + now * (1 - DECAY) if own in mean else now

        optimise(*given, **more | {"after_step": after_step})

    def measured(student: Any, rows: Any, held_out: Any) -> Any:
        if not cache:
            every = range(len(judges))
            cache.append(TrunkCache(student.view, judges, every, lambda *_: None))
        kept = {own: own.detach().clone() for own in mean}
        with torch.no_grad():
            for own, before in mean.items():  # the step that ends the epoch is not in it yet
                own.copy_(before * DECAY + kept[own] * (1 - DECAY))
        now, thresholds = measure(student, rows, held_out)
        right, _ = measure(student, judges, cache[0])
        with torch.no_grad():
            for own, before in kept.items():
                own.copy_(before)
        found.append((now.score, now.loss, right.score))
        return now, thresholds

    expert._measure = measured
    expert.optimise = averaged if options.side == MEAN else optimise
    try:
        expert.train_expert(job, backbone)
    finally:
        expert._measure, expert.optimise = measure, optimise
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
