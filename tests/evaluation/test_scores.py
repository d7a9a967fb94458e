"""Scores by kind of task: against scikit-learn and SciPy, and worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expertbank.config import sha256_text
from expertbank.evaluation.outcome import Counted, pearson
from expertbank.evaluation.predictions import Predictions
from expertbank.evaluation.scores import against_majority, confusion_matrix, macro_f1, matthews
from expertbank.kinds import KINDS


def digests(count: int) -> tuple[str, ...]:
    return tuple(sha256_text(str(row)) for row in range(count))


def classes(targets: list[int], answers: list[int], count: int) -> Predictions:
    logits = np.zeros((len(targets), count), dtype=np.float32)
    logits[np.arange(len(answers)), answers] = 1
    return Predictions(logits, np.array(targets, dtype=np.int32), digests(len(targets)))


def figures(evidence: Predictions) -> dict[str, Any]:
    """Scores of classes or values."""
    return KINDS.get(kind_of(evidence)).metrics(evidence)


def kind_of(evidence: Predictions) -> str:
    return "classification" if evidence.targets.dtype == np.int32 else "regression"


def quality(evidence: Predictions) -> float | None:
    return KINDS.get(kind_of(evidence)).outcome(evidence).quality()


def values(targets: list[float], answers: list[float]) -> Predictions:
    logits = np.array(answers, dtype=np.float32).reshape(-1, 1)
    return Predictions(logits, np.array(targets, dtype=np.float32), digests(len(targets)))


def test_macro_f1_and_matthews_are_what_the_hand_works_out() -> None:
    # Targets 0 0 0 0 1 1 2, answers 0 0 0 1 1 0 1: class 0 has 3 hits of 4 given and 4 answered,
    # class 1 has 1 of 2 given and 3 answered, class 2 none of 1 given and 0 answered.
    found = figures(classes([0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 0, 1], 3))
    assert found["accuracy"] == pytest.approx(4 / 7)
    assert found["majority"] == pytest.approx(4 / 7)
    assert found["macro_f1"] == pytest.approx((2 * 3 / 8 + 2 * 1 / 5 + 0) / 3)
    # n 7, hits 4, sum of products 4*4 + 2*3 + 1*0 = 22
    above = 4 * 7 - 22
    below = ((49 - (16 + 4 + 1)) * (49 - (16 + 9 + 0))) ** 0.5
    assert found["matthews"] == pytest.approx(above / below)


pairs = st.integers(2, 5).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(
            st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)),
            min_size=1,
            max_size=40,
        ),
    )
)


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(pairs)
def test_macro_f1_and_matthews_equal_scikit_learns(drawn) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    count, rows = drawn
    targets, answers = map(list, zip(*rows, strict=True))
    confusion = confusion_matrix(classes(targets, answers, count))
    np.testing.assert_array_equal(
        confusion, sklearn.confusion_matrix(targets, answers, labels=range(count))
    )
    expected = sklearn.f1_score(targets, answers, average="macro", zero_division=0)
    assert macro_f1(confusion) == pytest.approx(expected)
    assert matthews(confusion) == pytest.approx(sklearn.matthews_corrcoef(targets, answers))


@given(
    st.lists(
        st.tuples(st.integers(-30, 30), st.floats(-9, 9, width=16)), min_size=2, max_size=40
    ).filter(lambda rows: all(len(set(side)) > 1 for side in zip(*rows, strict=True)))
)
def test_correlations_equal_scipys_and_the_error_is_the_mean_square(rows) -> None:
    from scipy import stats

    targets, answers = map(list, zip(*rows, strict=True))
    found = figures(values(targets, answers))
    assert found["pearson"] == pytest.approx(stats.pearsonr(answers, targets).statistic, abs=1e-6)
    assert found["spearman"] == pytest.approx(stats.spearmanr(answers, targets).statistic, abs=1e-9)
    expected = sum((a - t) ** 2 for t, a in rows) / len(rows)
    assert found["mse"] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert (found["accuracy"], found["majority"], found["n"]) == (None, None, len(rows))


def test_always_the_same_answer_earns_no_more_than_nothing() -> None:
    found = figures(classes([0, 1, 1, 0, 1], [1] * 5, 2))
    assert found["matthews"] == 0
    assert found["accuracy"] == found["majority"] == 0.6
    assert found["macro_f1"] == pytest.approx((0 + 2 * 3 / 8) / 2)
    assert found["p_beats_majority"] == 1
    assert figures(classes([1, 1], [1, 1], 2))["matthews"] == 0


def test_clusters_that_are_right_or_wrong_as_a_whole_rarely_beat_an_even_majority() -> None:
    """Forty contracts of fifty rows, each right by a fair coin: truth is no better than half."""
    clusters = np.repeat(np.arange(40), 50).astype(np.int32)
    targets = np.tile([0, 1], 1000)
    rng, beaten = np.random.default_rng(3), 0
    for _ in range(200):
        right = (rng.random(40) < 0.5)[clusters]
        found = against_majority(Counted(right), targets, clusters)
        beaten += found["p_beats_majority"] <= 0.05
        alone = against_majority(Counted(right), targets, np.arange(2000, dtype=np.int32))
        assert alone == against_majority(Counted(right), targets, None)
    assert beaten <= 20, "5% of 200, and twice that for chance"
    sure = against_majority(Counted(np.ones(2000, bool)), targets, clusters)
    assert sure["p_beats_majority"] < 1e-6


def test_answers_that_count_as_the_same_are_one_answer_for_the_majority_too() -> None:
    wanted = ("a b", "a  b", "c", "a  b", "a b ")
    kind = KINDS.get("generation")
    targets = kind.target_array(wanted)
    assert len(set(targets.tolist())) == 2
    logits = np.zeros((5, 3), dtype=np.float32)
    digests = tuple(sha256_text(str(row)) for row in range(5))
    found = kind.metrics(Predictions(logits, targets, digests, texts=("a b",) * 5, wanted=wanted))
    assert (found["accuracy"], found["majority"], found["p_beats_majority"]) == (0.8, 0.8, 1.0)


def test_a_constant_value_has_no_correlation() -> None:
    for evidence in (values([1, 2, 3], [7, 7, 7]), values([5, 5, 5], [1, 2, 3])):
        found = figures(evidence)
        assert found["pearson"] is None
        assert found["spearman"] is None
        assert found["mse"] > 0
        assert quality(evidence) is None
    assert pearson(np.array([1.0]), np.array([2.0])) is None


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_has_no_correlation(odd: float) -> None:
    broken, rising = np.array([1.0, odd, 3.0]), np.arange(3.0)
    assert pearson(broken, rising) is None
    assert pearson(rising, broken) is None
    assert quality(values([1, odd, 3], [1, 2, 3])) is None


@given(st.floats(-1e6, 1e6), st.integers(2, 60))
def test_a_constant_is_constant_whatever_its_mean_rounds_to(value: float, count: int) -> None:
    constant, rising = np.full(count, value), np.arange(count)
    assert pearson(constant, rising) is None
    assert pearson(rising, constant) is None


def test_choices_are_scored_by_accuracy_and_have_no_classes_to_average_over() -> None:
    minus = float("-inf")
    targets = np.array([1, 0, 0, 1], dtype=np.int32)
    for last in (minus, -1):  # rows with unequal numbers of choices, and all with three
        logits = np.array([[1, 2, last], [3, 2, 1], [0, 5, last], [1, 2, 3]], dtype=np.float32)
        found = KINDS.get("multiple_choice").metrics(Predictions(logits, targets, digests(4)))
        assert (found["accuracy"], found["n"], found["majority"]) == (0.5, 4, 0.5)
        assert {"macro_f1", "matthews"}.isdisjoint(found)


def test_the_one_figure_is_accuracy_or_pearson() -> None:
    assert quality(classes([0, 1, 1, 1], [0, 1, 0, 0], 2)) == 0.5
    assert quality(values([1, 2, 3], [2, 4, 6])) == pytest.approx(1)
    assert quality(values([1, 2, 3], [6, 4, 2])) == pytest.approx(-1)


def test_values_survive_being_stored_as_values() -> None:
    evidence = values([1.5, -2.25, 0.0], [1, 2, 3])
    again = Predictions.from_bytes(evidence.to_bytes(), "test")
    assert again.targets.dtype == np.float32
    assert again.to_bytes() == evidence.to_bytes()
    assert again.targets.tolist() == [1.5, -2.25, 0.0]
    assert again.logits[:, 0].tolist() == [1, 2, 3]
    other = Predictions.from_bytes(classes([0, 1], [0, 1], 2).to_bytes(), "test")
    assert other.targets.dtype == np.int32
