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
        refuted: whether the order that fits one half of the rows best is right significantly more
            often than the given one on the other half. On the rows that it was found on, the best
            of so many orders would seem better by chance.
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

    def counted(rows: slice) -> Counts:
        counts: Counts = np.zeros((count, count), dtype=np.int64)
        np.add.at(counts, (answers[rows], labels[rows]), 1)
        return counts

    def fitting(counts: Counts) -> tuple[int, ...]:
        _, places = linear_sum_assignment(counts, maximize=True)
        return tuple(int(place) for place in places)

    def right(counts: Counts, order: tuple[int, ...]) -> int:
        return int(counts[range(count), order].sum())

    given = tuple(range(count))
    counts = counted(slice(None))
    best = fitting(counts)
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
    other, judges = fitting(counted(slice(0, None, 2))), counted(slice(1, None, 2))
    differing = [output for output, place in enumerate(other) if output != place]
    refuted = beats(
        sum(int(judges[output, other[output]]) for output in differing),
        sum(int(judges[output, output]) for output in differing),
        1,
    )
    return Order(len(labels), right(counts, given), best, right(counts, best), shown, refuted)
