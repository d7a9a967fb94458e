"""The order of a head's labels is taken from rows only where rows show it."""

from __future__ import annotations

import numpy as np
import pytest

from expertbank.evaluation.label_order import order_of


def rows(count: int, classes: int, right: float, order: list[int], seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    outputs = np.argsort(order)[labels]
    wrong = rng.random(count) > right
    return np.where(wrong, rng.integers(0, classes, count), outputs), labels


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_an_order_that_most_rows_agree_with_is_shown(classes: int) -> None:
    found = order_of(*rows(200, classes, 0.8, list(range(classes))), classes)
    assert found.shown
    assert not found.refuted
    assert found.best == tuple(range(classes))
    assert found.right == found.best_right


def test_another_order_is_found_and_the_given_one_refuted() -> None:
    found = order_of(*rows(200, 3, 0.9, [2, 0, 1]), 3)
    assert found.best == (2, 0, 1)
    assert found.refuted
    assert not found.shown
    assert found.best_right > 150 > found.right


def test_two_labels_exchanged_among_five_are_noticed() -> None:
    found = order_of(*rows(300, 5, 0.9, [0, 1, 3, 2, 4]), 5)
    assert not found.shown
    assert found.refuted
    assert found.best == (0, 1, 3, 2, 4)


@pytest.mark.parametrize("classes", [2, 10, 20])
def test_a_head_that_guesses_shows_no_order_and_refutes_none(classes: int) -> None:
    shown = refuted = 0
    for seed in range(100):
        answers, labels = rows(40 * classes, classes, 0.0, list(range(classes)), seed)
        found = order_of(answers, labels, classes)
        shown, refuted = shown + found.shown, refuted + found.refuted
    assert shown <= 4, "one in a hundred by chance"
    assert refuted <= 4


def test_a_label_without_rows_shows_nothing_of_its_place() -> None:
    answers, labels = rows(100, 2, 1.0, [0, 1])
    assert not order_of(answers, labels, 4).shown
