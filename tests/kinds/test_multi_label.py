"""Any number of labels a row: how they are read, judged, and given thresholds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from expertbank.config import sha256_text
from expertbank.errors import DataError
from expertbank.evaluation.predictions import Predictions
from expertbank.kinds import KINDS, LabelRules, RawLabel
from expertbank.kinds.multi_label import FEWEST, MULTI_LABEL, Flags, best_threshold
from expertbank.records import Row

FLAG_ROWS = st.integers(2, 5).flatmap(
    lambda width: st.lists(
        st.tuples(st.lists(st.booleans(), min_size=width, max_size=width), st.integers(0, 2**31)),
        min_size=1,
        max_size=30,
    )
)


def label_of(values: dict[str, Any], rules: LabelRules = LabelRules()) -> str | None:  # noqa: B008
    raw = MULTI_LABEL.raw_label(values, "labels", rules, "f:1")
    return None if raw is None else MULTI_LABEL.label(RawLabel(raw, rules, (), (), "f:1"))


def test_a_dropped_label_drops_its_row_whatever_stands_beside_it() -> None:
    rules = LabelRules(drop=("spam",), separator=";")
    assert label_of({"labels": "late; spam"}, rules) is None
    assert label_of({"labels": "late"}, rules) == '["late"]'
    assert label_of({"labels": ""}, rules) == "[]", "no label is not the dropped one"
    flags = LabelRules(drop=("spam",), flags=("late", "spam"))
    assert label_of({"late": 1, "spam": 1}, flags) is None
    assert label_of({"late": 1, "spam": 0}, flags) == '["late"]'
    assert flags.known == ("late",)


@pytest.mark.parametrize(
    ("value", "separator"),
    [
        (["b", "a", "b"], None),
        (("a", "b"), None),
        (np.array(["a", "b"], dtype=object), None),
        ('["b", "a"]', None),
        ("b; a;", ";"),
        ("a|b", "|"),
    ],
)
def test_every_way_to_write_several_labels_is_the_same_row(value, separator) -> None:
    assert label_of({"labels": value}, LabelRules(separator=separator)) == '["a","b"]'


def test_columns_of_flags_are_labels_in_the_columns_order() -> None:
    rules = LabelRules(flags=("late", "broken", "rude"))
    values = {"late": "1", "broken": 0, "rude": True}
    assert label_of(values, rules) == '["late","rude"]'
    rows = [Row("a", label='["late"]'), Row("b", label="[]")]
    assert MULTI_LABEL.labels(rows, rows, rules, "f") == ("late", "broken", "rude")


@pytest.mark.parametrize("value", ["", "2", "maybe", None, 0.5])
def test_a_flag_that_is_neither_0_nor_1_is_refused_with_its_column(value) -> None:
    rules = LabelRules(flags=("late", "rude"))
    with pytest.raises(DataError, match=r"f:1: column 'rude'.*0 or 1"):
        label_of({"late": 1, "rude": value}, rules)


@pytest.mark.parametrize("value", ["", None, [], "[]"])
def test_a_row_without_any_label_is_a_row(value) -> None:
    assert label_of({"labels": value}) == "[]"
    assert MULTI_LABEL.target(Row("x", label="[]"), {"a": 0, "b": 1}) == (0.0, 0.0)


def test_a_row_without_labels_is_left_out_where_the_task_says_so() -> None:
    assert label_of({"labels": None}, LabelRules(drop=(None,))) is None


def test_one_cell_without_a_separator_is_one_label_and_remarked_on_if_it_looks_like_more() -> None:
    assert label_of({"labels": "a;b"}) == '["a;b"]'
    (remark,) = MULTI_LABEL.remarks([Row("x", label='["a;b"]'), Row("y", label='["a;c"]')])
    assert "--label-separator ';'" in remark


def test_an_unknown_label_is_refused_with_a_near_name() -> None:
    rules = LabelRules(labels=("late", "broken"))
    with pytest.raises(DataError, match=r"unknown label 'brokn'.*did you mean 'broken'"):
        label_of({"labels": ["late", "brokn"]}, rules)


def predictions(rows: list[tuple[list[bool], int]], thresholds: np.ndarray | None) -> Predictions:
    true = np.array([holds for holds, _ in rows], dtype=np.int32)
    logits = np.stack(
        [np.random.default_rng(seed).normal(size=true.shape[1]) for _, seed in rows]
    ).astype(np.float32)
    digests = tuple(sha256_text(str(row)) for row in range(len(rows)))
    return Predictions(logits, true, digests, thresholds=thresholds)


@given(FLAG_ROWS, st.floats(-1, 1))
def test_the_figures_are_scikit_learns(rows, level) -> None:
    edge = np.full(len(rows[0][0]), level, dtype=np.float32)
    found = predictions(rows, edge)
    figures = MULTI_LABEL.metrics(found)
    answered, true = found.logits >= edge, found.targets
    assert figures["accuracy"] == figures["exact_match"]
    assert figures["accuracy"] == pytest.approx(accuracy_score(true, answered))
    if answered.any() or true.any():
        micro = f1_score(true, answered, average="micro", zero_division=0)
        assert figures["micro_f1"] == pytest.approx(micro)
        # Labels that stand neither in the rows nor in the answers are left out.
        there = (answered.any(0)) | (true.any(0))
        macro = f1_score(true, answered, average=None, zero_division=0)
        assert figures["macro_f1"] == pytest.approx(macro[there].mean())
    sets = [json.dumps(row.tolist()) for row in true]
    assert figures["majority"] == max(sets.count(one) for one in sets) / len(sets)


def test_predictions_with_thresholds_survive_being_stored() -> None:
    found = predictions([([True, False], 1), ([False, False], 2)], np.array([0.5, -1], np.float32))
    again = Predictions.from_bytes(found.to_bytes(), "test")
    assert again.to_bytes() == found.to_bytes()
    assert MULTI_LABEL.metrics(again) == MULTI_LABEL.metrics(found)


@given(
    st.lists(st.tuples(st.integers(-12, 12), st.booleans()), min_size=1, max_size=25),
)
def test_no_threshold_has_a_higher_f1_than_the_best(pairs) -> None:
    scores = np.array([score / 4 for score, _ in pairs])
    true = np.array([holds for _, holds in pairs])
    best = best_threshold(scores, true)
    assert abs(best) <= 2.95
    if not true.any():
        assert best == 0
        return

    def f1(threshold: float) -> float:
        answered = scores >= threshold
        given_or_true = answered.sum() + true.sum()
        return 2 * float((answered & true).sum()) / float(given_or_true)

    # Between any two neighbouring scores, and at both ends of the allowed range.
    cuts = np.clip(np.unique([*(scores - 1e-9), *(scores + 1e-9)]), -2.944, 2.944)
    reachable = [f1(cut) for cut in cuts if (scores >= cut).any()]
    if reachable and f1(best) < max(reachable):
        # Only a cut that the range forbids could do better.
        assert max(abs(scores)) > 2.944 or not ((scores >= best).any())


def test_rare_labels_share_one_threshold_and_common_ones_have_their_own() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.zeros(200, 3)
    true[: 2 * FEWEST, 0] = 1
    true[: FEWEST - 1, 1] = 1
    logits = torch.randn(200, 3, generator=generator) + 3 * true - 2
    found = Flags().thresholds(logits, true)
    shared = best_threshold(logits.double().numpy().ravel(), true.bool().numpy().ravel())
    assert found[1] == found[2] == pytest.approx(shared)
    own = best_threshold(logits[:, 0].double().numpy(), true[:, 0].bool().numpy())
    assert found[0] == pytest.approx(own)


def test_an_answer_is_every_label_that_reaches_its_threshold_and_may_be_none() -> None:
    logits, edge = torch.tensor([1.0, -0.5, 0.2]), torch.tensor([0.0, -1.0, 0.5])
    answer = MULTI_LABEL.answer(logits, Row("x"), ("a", "b", "c"), edge)
    assert answer.labels == ("a", "b")
    assert answer.label is None
    assert answer.scores == pytest.approx(
        {name: float(torch.sigmoid(value)) for name, value in zip("abc", logits, strict=True)}
    )
    none = MULTI_LABEL.answer(logits - 5, Row("x"), ("a", "b", "c"), edge)
    assert (none.labels, none.text) == ((), "(none)")
    assert MULTI_LABEL.is_right("[]", none)
    assert MULTI_LABEL.is_right('["a","b"]', answer)
    assert not MULTI_LABEL.is_right('["a"]', answer)


def test_only_labels_near_their_threshold_may_differ_between_machines() -> None:
    edge = np.array([0.0, 1.0], dtype=np.float32)
    before = np.array([[0.0001, 3], [0.5, 3], [-2, 1.0002]], dtype=np.float32)
    now = np.array([[-0.0001, 3], [-0.5, 3], [-2, 0.9998]], dtype=np.float32)
    same, near = MULTI_LABEL.same(before, now, edge)
    assert same.tolist() == [False, False, False]
    assert near.tolist() == [True, False, True]


def test_rows_are_split_so_that_every_label_keeps_a_training_row() -> None:
    from expertbank.data.splits import split

    rows = [Row(f"text {n}", label='["often"]' if n else '["once","often"]') for n in range(40)]
    for seed in range(20):
        rest, _ = split(rows, 0.2, seed, classes=MULTI_LABEL.classes)
        assert any("once" in MULTI_LABEL.counted(row) for row in rest)


def test_naming_flags_or_a_separator_makes_a_task_multi_label() -> None:
    from expertbank.data import task_spec

    assert task_spec("t", label_column=["late", "rude"]).kind == MULTI_LABEL.name
    assert task_spec("t", label_separator=";").kind == MULTI_LABEL.name
    assert task_spec("t", label_column="topic").kind != MULTI_LABEL.name
    assert MULTI_LABEL.name in KINDS.names()
