"""How well a router sends evaluation rows home; every task weighs the same.

Works expert by expert: memory grows with the experts, not with their square.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from expertbank.evaluation.calibration import expected_calibration_error
from expertbank.evaluation.evidence import Ints

CONFUSION_WARNING = 0.10
"""Mutual confusion of two tasks from which on the user is told."""


@dataclass(frozen=True, slots=True)
class Routed:
    """What a router chose for one task's rows, and how sure it was.

    Attributes:
        choice: ``[rows]`` int32 position of the chosen column.
        confidence: ``[rows]`` float32 probability of that column.
    """

    choice: Ints
    confidence: npt.NDArray[np.float32]


def routing_metrics(home: Mapping[str, int], choices: Mapping[str, Routed]) -> dict[str, Any]:
    """``accuracy``, ``per_task``, ``confusions`` and ``calibration_error``.

    Args:
        home: by task the column that stands for it.
        choices: by task what the router chose for the task's rows, at least one each; of some
            tasks at least.
    """
    shares: dict[str, dict[int, float]] = {}  # by task, the columns that got rows, and what share
    for task, routed in choices.items():
        columns, counts = np.unique(routed.choice, return_counts=True)
        own = (counts / len(routed.choice)).tolist()
        shares[task] = dict(zip(columns.tolist(), own, strict=True))
    per_task = {task: found.get(home[task], 0.0) for task, found in shares.items()}
    sizes = [len(routed.choice) for routed in choices.values()]
    return {
        "accuracy": sum(per_task.values()) / len(per_task),
        "per_task": per_task,
        "confusions": _confusions(home, shares),
        "calibration_error": expected_calibration_error(
            np.concatenate([routed.confidence for routed in choices.values()]),
            np.concatenate([routed.choice == home[task] for task, routed in choices.items()]),
            np.concatenate([np.full(size, 1 / size) for size in sizes]),
        ),
    }


def _confusions(
    home: Mapping[str, int], shares: Mapping[str, Mapping[int, float]]
) -> list[dict[str, Any]]:
    """Pairs of tasks that take each other's rows, by name; never two tasks of one group.

    The rate is the mean of both directions, of those that were measured: for it to be above the
    limit, one of them must be.
    """
    tasks_of: dict[int, list[str]] = {}
    for task, column in home.items():
        tasks_of.setdefault(column, []).append(task)
    pairs = {
        (min(task, other), max(task, other))
        for task, found in shares.items()
        for column, share in found.items()
        if share > CONFUSION_WARNING and column != home[task]
        for other in tasks_of[column]
    }
    found = []
    for one, other in sorted(pairs):
        ways = ((one, other), (other, one))
        known = [shares[task].get(home[to], 0.0) for task, to in ways if task in shares]
        rate = sum(known) / len(known)
        if rate > CONFUSION_WARNING:
            found.append({"tasks": [one, other], "rate": rate})
    return found
