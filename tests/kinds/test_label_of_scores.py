"""A label is the most probable of the scores that stand beside it, in every kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from expertbank.evaluation.decisions import chosen, likelihoods, merged, probabilities
from expertbank.evaluation.predictions import Predictions
from expertbank.kinds import KINDS, LabelRules
from expertbank.kinds.choices import first_places
from expertbank.kinds.regression import value_text
from expertbank.records import Row

LOGITS = st.lists(
    st.one_of(
        st.floats(-60, 60, width=32),
        st.sampled_from([0.0, -0.0, 1e-30, -1e-30, 5e-8, 1.0, np.float32(1.0000001), -2.944]),
    ).map(float),
    min_size=2,
    max_size=6,
)
TEXTS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=2, max_size=6)


def stored(logits: list[float], target: int) -> Predictions:
    return Predictions(
        np.array([logits], dtype=np.float32), np.array([target], dtype=np.int32), ("0" * 64,)
    )


def answer(kind: str, logits: list[float], row: Row, labels: tuple[str, ...] = (), edges=None):
    return KINDS.get(kind).answer(torch.tensor(logits), row, labels, edges)


@given(LOGITS)
@example([0.0, 1e-30])
@example([20.0, 20.000002])
@example([60.0, -60.0, -59.9])
def test_a_class_is_the_first_of_the_most_probable_and_counted_so(logits: list[float]) -> None:
    labels = tuple(f"label {place}" for place in range(len(logits)))
    found = answer("classification", logits, Row("x"), labels)
    assert found.label == max(labels, key=found.scores.__getitem__)
    assert sum(found.scores.values()) == pytest.approx(1, abs=1e-12)
    for place, label in enumerate(labels):
        right = KINDS.get("classification").outcome(stored(logits, place)).correct()
        assert right == (found.label == label)


@given(TEXTS, st.data())
@example(["a", "b", "b"], None)
def test_equal_choices_are_one_answer_in_scores_label_and_counts(texts, data) -> None:
    logits = [0.5, 0.4, 0.4]
    if data is not None:
        value = st.floats(-60, 60, width=32)
        logits = data.draw(st.lists(value, min_size=len(texts), max_size=len(texts)))
    row = Row("x", choices=tuple(texts))
    kind = KINDS.get("multiple_choice")
    found = answer("multiple_choice", logits, row)
    assert found.label == max(found.scores, key=found.scores.__getitem__)
    assert found.choice == texts.index(found.label)
    assert sum(found.scores.values()) == pytest.approx(1, abs=1e-6)
    alone = probabilities(np.array(logits, dtype=np.float32))
    for text, score in found.scores.items():
        chances = [p for p, each in zip(alone, texts, strict=True) if each == text]
        assert score == pytest.approx(sum(chances), abs=1e-6)
    # What evidence keeps of the row comes to the same, whichever of equal choices is named.
    kept = merged(np.array(logits), first_places(row.choices))
    assert merged(kept, first_places(row.choices)).tolist() == kept.tolist()
    for place, text in enumerate(texts):
        truth = kind.truth(Row("x", choices=row.choices, label=str(place)))
        assert kind.is_right(truth, found) == (text == found.label)
        assert (chosen(kept[None])[0] == int(truth)) == (text == found.label)


@given(LOGITS, st.data())
@example([-1e-9, -1e-20], None)
def test_labels_hold_from_their_threshold_on_as_both_are_shown(logits, data) -> None:
    labels = tuple(f"label {place}" for place in range(len(logits)))
    edges = None
    if data is not None:
        edge = st.one_of(st.floats(-2.9375, 2.9375, width=32), st.sampled_from(logits))
        edges = torch.tensor(data.draw(st.lists(edge, min_size=len(logits), max_size=len(logits))))
    found = answer("multi_label", logits, Row("x"), labels, edges)
    shown = [label for label in labels if found.scores[label] >= found.thresholds[label]]
    assert found.labels == tuple(shown)
    flags = Predictions(
        np.array([logits], dtype=np.float32),
        np.array([[label in shown for label in labels]], dtype=np.int32),
        ("0" * 64,),
        thresholds=None if edges is None else edges.numpy(),
    )
    kind = KINDS.get("multi_label")
    assert kind.outcome(flags).correct() == 1
    same, _ = kind.same(flags.logits, flags.logits, flags.thresholds)
    assert same.all()


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=5))
def test_likelihoods_keep_order_and_stay_between_0_and_1(logits: list[float]) -> None:
    found = likelihoods(np.array(logits))
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found[np.argsort(logits, kind="stable")]) >= 0).all()


def test_a_small_value_is_told_by_its_first_digits_and_none_is_minus_zero() -> None:
    assert [value_text(v) for v in (-0.0, -12.5, 0.1, -0.00041239, 3.2e-9)] == [
        *("0.000", "-12.500", "0.100"),
        *("-0.000412", "3.2e-09"),
    ]


def test_flags_that_are_joined_are_one_label() -> None:
    rules = LabelRules(names={"a": "x", "b": "x"}, flags=("a", "b", "c"))
    assert rules.known == ("x", "c")
