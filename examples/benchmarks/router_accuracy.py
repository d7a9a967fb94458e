"""Routing accuracy as tasks are added one by one, for every gate and what it is held against.

Run it with: python examples/benchmarks/router_accuracy.py ../shared/data [--cache DIR]

Mean of per-task accuracies on validation rows, candidates by shape of row (`masked`) and any
task for any row (`free`: fitted and tested without the mask). Beside the gates: lda from
moments of a fixed 512-dimensional projection alone (`--keep stats`), joint logistic regression
(scikit-learn) on the same features, and naive sequential training, which sees each task once
and no older features (a gate trained by gradient on the newest task only). ECE is the expected
calibration error over 15 bins, every task weighing the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from machine import describe
from routing_features import RealTask, arguments, real_tasks
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.evaluation.calibration import expected_calibration_error
from expertbank.routing.columns import candidates
from expertbank.routing.config import RouterConfig
from expertbank.routing.gates import GATES
from expertbank.routing.router import Router
from expertbank.testing.routers import fit_router

Measured = tuple[dict[str, float], float]
"""Accuracy by task, and the expected calibration error (not a number where there is none)."""


def free(task: RealTask) -> RealTask:
    """The task as if all rows had one shape: then nothing is masked."""
    one, other = len(task.train_shapes), len(task.evaluation_shapes)
    return replace(task, train_shapes=("single",) * one, evaluation_shapes=("single",) * other)


def through_router(router: Router, tasks: Sequence[RealTask], *, tuning: bool) -> Measured:
    accuracy, confidences, rights = {}, [], []
    for task in tasks:
        choice = router.route(*task.tested_on(tuning=tuning))
        right = (choice.index == router.column_of(task.name)).numpy()
        accuracy[task.name] = float(right.mean())
        confidences.append(choice.confidence.numpy())
        rights.append(right)
    weight = np.concatenate([np.full(len(right), 1 / len(right)) for right in rights])
    ece = expected_calibration_error(np.concatenate(confidences), np.concatenate(rights), weight)
    return accuracy, ece


def gate(kind: str) -> Callable[[Sequence[RealTask], bool], Measured]:
    def measure(tasks: Sequence[RealTask], tuning: bool) -> Measured:
        fitted = [task.fitted_on(tuning=tuning) for task in tasks]
        router = fit_router(fitted, RouterConfig(kind), "0" * 64)
        return through_router(router, tasks, tuning=tuning)

    return measure


def stats_kept(tasks: Sequence[RealTask], tuning: bool) -> Measured:
    fitted = [task.fitted_on(tuning=tuning) for task in tasks]
    router = fit_router(fitted, RouterConfig("lda"), "0" * 64, rows=False)
    return through_router(router, tasks, tuning=tuning)


def by_scores(
    tasks: Sequence[RealTask], tuning: bool, scores: Callable[[Tensor], Tensor]
) -> Measured:
    reads = [set(task.train_shapes) for task in tasks]
    accuracy = {}
    for column, task in enumerate(tasks):
        features, shapes = task.tested_on(tuning=tuning)
        found = scores(features.float()).masked_fill(~candidates(shapes, reads), float("-inf"))
        accuracy[task.name] = float((found.argmax(1) == column).double().mean())
    return accuracy, float("nan")


def logistic(tasks: Sequence[RealTask], tuning: bool) -> Measured:
    parts = [task.fitted_on(tuning=tuning).train.float() for task in tasks]
    targets = np.concatenate([np.full(len(part), place) for place, part in enumerate(parts)])
    model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=200)
    model.fit(torch.cat(parts).numpy(), targets)
    if len(tasks) == 2:
        return by_scores(tasks, tuning, lambda f: torch.tensor(model.predict_log_proba(f.numpy())))
    return by_scores(tasks, tuning, lambda f: torch.tensor(model.decision_function(f.numpy())))


def naive(tasks: Sequence[RealTask], tuning: bool) -> Measured:
    generator = torch.Generator().manual_seed(0)
    dimension = tasks[0].train.shape[1]
    weight = torch.zeros(dimension, len(tasks), requires_grad=True)
    bias = torch.zeros(len(tasks), requires_grad=True)
    scale = dimension**-0.5
    for column, task in enumerate(tasks):
        optimiser = torch.optim.Adam([weight, bias], lr=1e-2)
        features = task.fitted_on(tuning=tuning).train.float() * scale
        for _ in range(3):
            for rows in torch.randperm(len(features), generator=generator).split(256):
                seen = (features[rows] @ weight + bias)[:, : column + 1]
                loss = F.cross_entropy(seen, torch.full((len(rows),), column))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    return by_scores(tasks, tuning, lambda f: (f * scale @ weight + bias).detach())


METHODS: dict[str, Callable[[Sequence[RealTask], bool], Measured]] = {
    **{kind: gate(kind) for kind in GATES.names()},
    "lda, stats kept": stats_kept,
    "joint logistic regression": logistic,
    "naive sequential": naive,
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="*", help="numbers of tasks; default 4 8 all")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--held-out", action="store_true", help="test on held-out train rows")
    options = parser.parse_args(argv)
    describe(options.seed)
    torch.manual_seed(options.seed)
    tasks = real_tasks(options)
    steps = options.steps or [number for number in (4, 8) if number < len(tasks)] + [len(tasks)]
    last: dict[str, dict[str, float]] = {}
    print("| gate | candidates | " + " | ".join(f"{n} tasks" for n in steps) + " | ECE | seconds |")
    print("|---" * (len(steps) + 4) + "|")
    for name in options.methods:
        for mask, shown in (("masked", tasks), ("free", [free(task) for task in tasks])):
            started, cells = time.monotonic(), []
            for number in steps:
                accuracy, ece = METHODS[name](shown[:number], options.held_out)
                cells.append(f"{np.mean(list(accuracy.values())):.4f}")
            seconds = time.monotonic() - started
            if mask == "masked":
                last[name] = accuracy
            print(
                f"| {name} | {mask} | {' | '.join(cells)} | {ece:.3f} | {seconds:.0f} |", flush=True
            )
    print("\n| task | " + " | ".join(last) + " |")
    print("|---" * (len(last) + 1) + "|")
    for task in tasks[: steps[-1]]:
        print(f"| {task.name} | " + " | ".join(f"{a[task.name]:.3f}" for a in last.values()) + " |")


if __name__ == "__main__":
    main()
