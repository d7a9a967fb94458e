"""How near a written answer comes to the one that was wanted: figures worked out by hand."""

from __future__ import annotations

import sys

import pytest

from expertbank.evaluation.texts import rouge_l, same_text, token_f1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("the cat", "the cat", True),
        (" the  cat\n", "the cat", True),
        ("The cat", "the cat", False),
        ("the cat.", "the cat", False),
        ("", " ", True),
    ],
)
def test_white_space_alone_makes_no_other_text(one: str, other: str, same: bool) -> None:
    assert same_text(one, other) is same


@pytest.mark.parametrize(
    ("answered", "wanted", "expected"),
    [
        ("The cat!", "cat", 1.0),
        ("a cat and a dog", "the dog", 2 * 1 / (3 + 1)),
        ("dog dog dog", "dog", 2 * 1 / (3 + 1)),
        ("red", "blue", 0.0),
        ("", "blue", 0.0),
        ("the", "", 1.0),
    ],
)
def test_f1_counts_words_in_common_as_squad_does(
    answered: str, wanted: str, expected: float
) -> None:
    assert token_f1(answered, wanted) == pytest.approx(expected)


def test_rouge_l_counts_words_in_common_order_and_needs_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Two of three words, and two of four, stand in one order.
    expected = 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)
    found = rouge_l(("the red cat", "one"), ("the cat is red", "two"))
    assert found == pytest.approx(expected / 2)
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    assert rouge_l(("one",), ("one",)) is None
