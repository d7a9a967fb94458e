"""Continual-learning metrics over the accuracy matrix ``R``.

``R[i][j]`` is the routed accuracy of router ``i`` on task ``j``, ``None`` before the router knew
the task. Rows are routers in time order; the last row is the router reported on.
"""

from __future__ import annotations

from collections.abc import Sequence

Matrix = Sequence[Sequence[float | None]]


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean; ``None`` of nothing."""
    return sum(values) / len(values) if values else None


def average_accuracy(matrix: Matrix) -> float | None:
    """Mean of the last row (Lopez-Paz & Ranzato, arXiv 1706.08840, eq. 2)."""
    return mean([value for value in matrix[-1] if value is not None]) if matrix else None


def backward_transfer(matrix: Matrix) -> float | None:
    """Mean over tasks of ``R[last][j] − R[first_j][j]`` (arXiv 1706.08840, eq. 3).

    ``first_j`` is the first router that contains task ``j``. The tasks whose first router is
    the last one had no time to change and are left out: with one task added per router that
    is the mean over ``T − 1``. ``None`` where no task is left.
    """
    changes = []
    for column in _columns(matrix):
        known = [value for value in column if value is not None]
        if column[-1] is not None and len(known) > 1:
            changes.append(column[-1] - known[0])
    return mean(changes)


def forgetting(matrix: Matrix) -> float | None:
    """Mean over tasks of best earlier accuracy minus accuracy now.

    (Chaudhry et al., arXiv 1801.10112, section 3.) Negative where a task got better. The same
    tasks count as in ``backward_transfer``.
    """
    losses = []
    for column in _columns(matrix):
        earlier = [value for value in column[:-1] if value is not None]
        if column[-1] is not None and earlier:
            losses.append(max(earlier) - column[-1])
    return mean(losses)


def routing_regret(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Mean over tasks of accuracy with the task given minus accuracy with the router choosing.

    What the router costs: 0 where it sends every row that matters to its own expert.

    Args:
        pairs: per task the accuracy with the task given and the routed one; tasks where one is
            unknown are left out.
    """
    return mean(
        [given - routed for given, routed in pairs if given is not None and routed is not None]
    )


def flip_rate(flips: int, n: int) -> float:
    """Prediction churn: the share of a task's rows whose choice changed between two routers.

    With frozen experts a row whose choice did not change is answered as before, so no accuracy
    can have moved by more than this, in either direction.
    """
    return flips / n if n else 0.0


def route_confusion(counts: Sequence[Sequence[int]]) -> tuple[tuple[float, ...], ...]:
    """Counts of rows sent from task (row) to column as shares of each task's rows."""
    return tuple(
        tuple(count / total if (total := sum(row)) else 0.0 for count in row) for row in counts
    )


def _columns(matrix: Matrix) -> list[list[float | None]]:
    return [list(column) for column in zip(*matrix, strict=True)]
