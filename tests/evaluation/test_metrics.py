"""Metrics against matrices worked by hand."""

from __future__ import annotations

import pytest

from expertbank.evaluation.metrics import average_accuracy, backward_transfer, forgetting, mean

# Three tasks, one more with each router.
#   task 0: 0.9 → 0.8 → 0.7   change −0.2, best earlier 0.9, forgotten 0.2
#   task 1:       0.6 → 0.8   change +0.2, best earlier 0.6, forgotten −0.2
#   task 2:             0.5   no time to change
GROWING = [[0.9, None, None], [0.8, 0.6, None], [0.7, 0.8, 0.5]]

# Task 0 first fell below its start and came back: best earlier is not the first.
#   task 0: 0.5 → 0.9 → 0.8   change +0.3, best earlier 0.9, forgotten 0.1
#   task 1: 0.4 → 0.4 → 0.4   nothing
RETURNING = [[0.5, 0.4], [0.9, 0.4], [0.8, 0.4]]

# Task 0 was removed before the last router; task 1 missed the middle one.
#   task 1: 1.0 → none → 0.75   change −0.25, forgotten 0.25
LEFT_OUT = [[0.9, 1.0], [0.9, None], [None, 0.75]]


@pytest.mark.parametrize(
    ("matrix", "average", "transfer", "lost"),
    [
        (GROWING, 2.0 / 3, 0.0, 0.0),
        (RETURNING, 0.6, 0.15, 0.05),
        (LEFT_OUT, 0.75, -0.25, 0.25),
        ([[0.7, 0.9]], 0.8, None, None),
        ([[0.7, None], [0.7, 0.1]], 0.4, 0.0, 0.0),
        ([[None, 0.5], [None, None]], None, None, None),
        ([], None, None, None),
    ],
    ids=["growing", "returning", "left out", "one router", "unchanged", "nothing left", "nothing"],
)
def test_metrics_are_what_the_hand_works_out(
    matrix: list[list[float | None]],
    average: float | None,
    transfer: float | None,
    lost: float | None,
) -> None:
    for found, expected in (
        (average_accuracy(matrix), average),
        (backward_transfer(matrix), transfer),
        (forgetting(matrix), lost),
    ):
        assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_with_one_task_a_router_the_mean_is_over_all_but_the_last() -> None:
    # Lopez-Paz & Ranzato, eq. 3: (1 / (T − 1)) Σ R[T][i] − R[i][i] = (−0.3 + 0.1 + 0) / 3
    matrix = [
        [0.8, None, None, None],
        [0.6, 0.5, None, None],
        [0.6, 0.5, 0.7, None],
        [0.5, 0.6, 0.7, 0.9],
    ]
    assert backward_transfer(matrix) == pytest.approx(-0.2 / 3)
    # Chaudhry et al.: max earlier minus now = (0.3 + (−0.1) + 0) / 3
    assert forgetting(matrix) == pytest.approx(0.2 / 3)


def test_the_mean_of_nothing_is_nothing() -> None:
    assert mean([]) is None
    assert mean([0.0]) == 0.0
