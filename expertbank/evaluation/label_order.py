"""Whether rows show in which order labels belong to the outputs of a head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVEL = 0.01
"""How seldom an order may seem shown by chance, over all pairs of labels together."""

Counts = npt.NDArray[np.int64]
"""``[outputs, labels]``: rows by the highest output and by their label."""


@dataclass(frozen=True, slots=True)
class Order:
    """What rows say of an order of labels.

    Attributes:
        rows: how many there were.
        right: how many are right in the order given.
        best: for each output the place of the label that fits best, one to one.
        best_right: how many are right in that order.
        shown: whether the given order is right significantly more often than with any two labels
            exchanged.
        refuted: whether the best order is right significantly more often than the given one.
    """

    rows: int
    right: int
    best: tuple[int, ...]
    best_right: int
    shown: bool
    refuted: bool


def order_of(answers: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], count: int) -> Order:
    """Hold the order of labels against rows.

    Args:
        answers: ``[rows]`` the output that is highest.
        labels: ``[rows]`` the place of the row's label in the order given.
        count: labels there are.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.stats import binomtest

    counts: Counts = np.zeros((count, count), dtype=np.int64)
    np.add.at(counts, (answers, labels), 1)
    outputs, places = linear_sum_assignment(counts, maximize=True)
    best = tuple(int(place) for _, place in sorted(zip(outputs, places, strict=True)))
    right = int(np.trace(counts))
    best_right = int(counts[outputs, places].sum())
    pairs = [(one, other) for one in range(count) for other in range(one)]

    def beats(more: int, less: int, tests: int) -> bool:
        found = binomtest(more, more + less, 0.5, "greater").pvalue if more + less else 1.0
        return bool(found < LEVEL / tests)

    shown = all(
        beats(
            int(counts[one, one] + counts[other, other]),
            int(counts[one, other] + counts[other, one]),
            len(pairs),
        )
        for one, other in pairs
    )
    best_alone = sum(int(counts[o, p]) for o, p in enumerate(best) if o != p)
    given_alone = sum(int(counts[o, o]) for o, p in enumerate(best) if o != p)
    return Order(len(labels), right, best, best_right, shown, beats(best_alone, given_alone, 1))
