"""Holm, exact McNemar, rows that come in clusters, values, and which verdict follows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from expertbank.evaluation.noninferiority import margin_without_loss, p_noninferior
from expertbank.evaluation.predictions import Predictions
from expertbank.evaluation.statistics import holm, p_mcnemar, p_more_often
from expertbank.evaluation.units import clusters_of, correlation_units
from expertbank.evaluation.verdicts import Change, Pairs, judge, measure, worst


def pairs(kept: int, losses: int, gains: int, flips: int = 0, wrong: int = 0) -> Pairs:
    """Rows right under both, lost, gained, and wrong under both of which ``flips`` moved."""
    before = np.array([True] * kept + [True] * losses + [False] * (gains + wrong))
    now = np.array([True] * kept + [False] * losses + [True] * gains + [False] * wrong)
    flipped = before != now
    if flips:
        flipped[-flips:] = True
    return Pairs(before, now, flipped)


def verdict(given: Pairs, *others: Pairs, margin: float = 0.01) -> str:
    return judge([measure(one, margin) for one in (given, *others)])[0].verdict


def test_holm_is_what_the_hand_works_out() -> None:
    # Sorted .005 .01 .03 .04: times 4, 3, 2, 1 is .02 .03 .06 .04, and never falling .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()
    assert holm([0.6, 0.9]) == (1.0, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_rejects_less_than_bonferroni_nor_more_than_each_alone(values) -> None:
    for p, adjusted in zip(values, holm(values), strict=True):
        assert p <= adjusted <= min(1.0, p * len(values)) + 1e-12


def test_holm_holds_the_chance_of_any_false_claim() -> None:
    rng = np.random.default_rng(0)
    false = np.mean([min(holm(rng.random(8).tolist())) <= 0.05 for _ in range(4000)])
    assert false <= 0.05 + 3 * (0.05 * 0.95 / 4000) ** 0.5


def test_mcnemar_is_exact_and_five_lost_rows_prove_nothing() -> None:
    assert p_mcnemar(0, 5) == pytest.approx(0.0625)
    assert p_mcnemar(0, 6) == pytest.approx(2 * 0.5**6)
    assert p_mcnemar(0, 0) == 1
    assert p_mcnemar(3, 3) == 1
    assert p_more_often(6, 0) == pytest.approx(0.5**6)


@pytest.mark.parametrize("n", [1, 20, 5000])
def test_no_flip_is_identical_whatever_the_number_of_rows(n: int) -> None:
    assert verdict(pairs(n, 0, 0)) == "identical"


def test_a_flip_that_changes_no_answer_is_a_flip_and_no_discordant_pair() -> None:
    change = measure(pairs(90, 0, 0, flips=3, wrong=10), 0.01)
    assert (change.flips, change.losses, change.gains) == (3, 0, 0)
    assert verdict(pairs(90, 0, 0, flips=3, wrong=10)) == "inconclusive"
    assert verdict(pairs(290, 0, 0, flips=3, wrong=10)) == "preserved"


def test_preserved_is_the_proof_that_the_loss_is_within_the_margin() -> None:
    change = measure(pairs(1990, 6, 4), 0.01)
    assert change.p_noninferiority == p_noninferior(4, 6, 2000, 0.01) <= 0.05
    assert change.interval is not None
    assert change.interval[0] > -0.01
    assert verdict(pairs(1990, 6, 4)) == "preserved"


def test_a_proved_fall_within_the_margin_is_preserved() -> None:
    change = measure(pairs(9960, 40, 0), 0.01)
    assert change.p_loss is not None
    assert change.p_loss < 1e-6
    assert verdict(pairs(9960, 40, 0)) == "preserved"


def test_lost_is_a_proved_fall_that_is_not_proved_to_be_within_the_margin() -> None:
    assert verdict(pairs(480, 20, 0)) == "lost"
    # 0.9% of rows: a fall for certain, and perhaps more than a point.
    assert verdict(pairs(991, 9, 0)) == "lost"


def test_a_set_too_small_is_inconclusive_and_names_the_margin_it_could_prove() -> None:
    change = measure(pairs(54, 1, 1), 0.01)
    assert verdict(pairs(54, 1, 1)) == "inconclusive"
    assert change.margin_possible == pytest.approx(1 - 0.05 ** (1 / 56))
    assert change.margin_provable is not None
    assert change.margin_provable > change.margin_possible > 0.01
    assert verdict(pairs(54, 1, 1), margin=change.margin_provable + 1e-6) == "preserved"


def test_many_tasks_need_more_evidence_than_one() -> None:
    alone = pairs(299, 0, 0, flips=0, wrong=1)
    moved = Pairs(alone.before, alone.now, np.arange(300) == 299)
    assert verdict(moved) == "preserved"
    assert verdict(moved, *[moved] * 11) == "inconclusive"


def test_the_worst_verdict_speaks_for_all() -> None:
    assert worst(["identical", None, "preserved"]) == "preserved"
    assert worst(["lost", "inconclusive"]) == "lost"
    assert worst(["inconclusive", "preserved"]) == "inconclusive"
    assert worst([None]) is None


def clustered(per_cluster: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Differences and clusters from (size, rows lost) of each cluster."""
    differences, numbers = [], []
    for number, (size, lost) in enumerate(per_cluster):
        differences += [-1.0] * lost + [0.0] * (size - lost)
        numbers += [number] * size
    return np.array(differences), np.array(numbers, dtype=np.int32)


def test_rows_that_fall_together_prove_less_than_rows_that_fall_alone() -> None:
    differences, clusters = clustered([(10, 10)] + [(10, 0)] * 99)
    together = clusters_of(differences, clusters)
    alone = clusters_of(differences, np.arange(1000, dtype=np.int32))
    assert together.change == alone.change == pytest.approx(-0.01)
    assert together.interval[0] < alone.interval[0]
    assert together.margin_provable > alone.margin_provable


def test_clusters_are_judged_by_scipys_t_test_with_one_more_that_is_lost() -> None:
    rng = np.random.default_rng(3)
    differences = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.85, 0.05], size=600)
    clusters = rng.integers(0, 150, 600).astype(np.int32)
    found = clusters_of(differences, clusters)
    sizes = np.bincount(clusters)[np.unique(clusters)].astype(float)
    sums = np.array([differences[clusters == number].sum() for number in np.unique(clusters)])
    assert found.effective == pytest.approx(600**2 / (sizes**2).sum())
    stake = np.sqrt((sizes[np.searchsorted(np.unique(clusters), clusters)] ** 2).mean())
    for bound in (-0.2, -0.1, -0.05, 0.0):
        above = [*(sums - bound * sizes), -stake * (1 + bound)]
        z = stats.ttest_1samp(above, 0).statistic
        exact = max(
            stats.t.sf(z, found.effective - 1), (1 + bound) ** found.effective * (bound < 0)
        )
        assert found.p_at_most(bound) == pytest.approx(exact)
        gained = min(stake, np.abs(sums).max())
        below = [*(bound * sizes - sums), -gained * (1 - bound)]
        z = stats.ttest_1samp(below, 0).statistic
        assert found.p_at_least(bound) == pytest.approx(stats.t.sf(z, found.effective - 1))
    low, high = found.interval
    assert low < found.change < high
    assert found.p_at_least(high) == pytest.approx(0.05)
    assert found.p_at_most(low) == pytest.approx(0.05)
    assert low == pytest.approx(-found.margin_provable)
    assert found.p_at_most(-found.margin_provable) == pytest.approx(0.05)


def test_as_many_clusters_without_loss_can_prove_no_more_than_so_many_rows() -> None:
    differences, clusters = clustered([(20, 0)] * 50)
    found = clusters_of(differences, clusters)
    assert found.p_at_most(-0.01) >= 0.99**50
    assert found.margin_provable >= margin_without_loss(50)


def test_one_large_cluster_without_loss_proves_no_more_than_one_row() -> None:
    one = clustered([(3600, 0)] + [(1, 0)] * 399)[1]
    right, flipped = np.ones(3999, dtype=bool), np.arange(3999) == 3998
    found = measure(Pairs(right, right, flipped, clusters=one), 0.01)
    assert judge([found])[0].verdict == "inconclusive"
    assert found.margin_possible == found.margin_provable > 0.5


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_a_loss_as_large_as_the_margin_is_rarely_said_to_be_preserved(spread: float) -> None:
    """Whole clusters are lost, of equal and of very different sizes."""
    rng, wrong, reports = np.random.default_rng(11), 0, 600
    for _ in range(reports):
        sizes = np.maximum(1, rng.lognormal(1.5, spread, 1500).astype(int))
        change = np.where(rng.random(1500) < 0.02, -1.0, np.where(rng.random(1500) < 0.01, 1.0, 0))
        truth = -0.02 + 0.98 * 0.01
        number = np.repeat(np.arange(1500, dtype=np.int32), sizes)
        wrong += clusters_of(np.repeat(change, sizes), number).p_at_most(truth) <= 0.05
    assert wrong / reports <= 0.05 + 2 * (0.05 * 0.95 / reports) ** 0.5


@pytest.mark.parametrize("documents", range(1, 8))
def test_few_documents_are_not_lost_by_chance(documents: int) -> None:
    """Each is as likely to lose a row as to gain one: all ways are counted out."""
    wrong = 0.0
    clusters = np.repeat(np.arange(documents, dtype=np.int32), 10)
    for lost in range(documents + 1):
        before, now = np.ones((2, documents, 10), dtype=bool)
        now[:lost, 0], before[lost:, 0] = False, False
        before, now = before.ravel(), now.ravel()
        pairs = Pairs(before, now, before != now, clusters=clusters)
        (judged,) = judge([measure(pairs, 0.01)])
        if judged.verdict == "lost":
            wrong += math.comb(documents, lost) / 2**documents
    assert wrong <= 0.05
    assert (wrong > 0) == (documents > 5), "more of them, all worse, show it"


def test_two_values_that_change_places_show_no_loss() -> None:
    found = correlation_units(*(np.array(side, float) for side in ([1, 2], [2, 1], [1, 2])))
    assert found is not None
    assert found.change == -2.0 == found.interval[0] < found.interval[1]
    assert found.p_at_least(0) == 0.25


def test_the_change_of_correlation_is_that_of_scipy_and_clusters_of_one_are_rows() -> None:
    rng = np.random.default_rng(5)
    targets = rng.normal(size=300)
    before = targets + rng.normal(size=300)
    now = np.where(rng.random(300) < 0.1, before.mean(), before)
    found = correlation_units(before, now, targets)
    assert found is not None
    expected = stats.pearsonr(now, targets).statistic - stats.pearsonr(before, targets).statistic
    assert found.change == pytest.approx(expected)
    same = correlation_units(before, now, targets, np.arange(300, dtype=np.int32))
    assert same is not None
    assert same.interval == found.interval
    assert found.p_at_most(found.interval[0]) == pytest.approx(0.05, abs=0.002)
    assert found.p_at_least(found.interval[1]) == pytest.approx(0.05, abs=0.002)
    assert correlation_units(before, np.zeros(300), targets) is None


@pytest.mark.parametrize("outlier", [0.0, 1e7, 1e9, 1e12])
def test_a_row_that_outweighs_all_others_hides_no_loss_of_theirs(outlier: float) -> None:
    rng = np.random.default_rng(2)
    targets = rng.normal(size=400)
    before = targets + 0.3 * rng.normal(size=400)
    now = np.where(np.arange(400) % 2 == 1, before.mean(), before)
    targets[0] = before[0] = now[0] = outlier
    found = correlation_units(before, now, targets)
    assert found is not None
    rest = np.arange(400) > 0
    without = np.corrcoef(now[rest], targets[rest])[0, 1]
    without -= np.corrcoef(before[rest], targets[rest])[0, 1]
    change = np.corrcoef(now, targets)[0, 1] - np.corrcoef(before, targets)[0, 1]
    left_out = (found.says.mean() - found.says[0]) / 399  # apart from a constant for all rows
    assert found.change == pytest.approx(change, abs=1e-9)
    every = [
        np.corrcoef(np.delete(now, k), np.delete(targets, k))[0, 1]
        - np.corrcoef(np.delete(before, k), np.delete(targets, k))[0, 1]
        for k in range(400)
    ]
    assert left_out == pytest.approx(without - np.mean(every), abs=1e-6)
    assert found.p_at_most(-0.05) > 0.05


def test_values_that_are_no_numbers_prove_nothing() -> None:
    targets = np.arange(40.0)
    now = np.where(np.arange(40) == 7, np.nan, targets)
    assert correlation_units(targets, now, targets) is None


def values(moved: float, n: int = 400) -> Change:
    rng = np.random.default_rng(8)
    targets = rng.normal(size=n)
    before = targets + 0.3 * rng.normal(size=n)
    flipped = rng.random(n) < moved
    now = np.where(flipped, before.mean(), before)
    return measure(Pairs(before, now, flipped, targets), 0.01)


def test_regression_is_judged_by_its_correlation() -> None:
    assert judge([values(0.0)])[0].verdict == "identical"
    assert judge([values(0.4)])[0].verdict == "lost"
    assert values(0.4).method == "jackknife-t"
    assert values(0.4).p_mcnemar is None


@pytest.mark.parametrize("clustered", [False, True])
def test_rows_that_get_no_value_any_more_are_a_loss_whatever_the_correlation_of_the_others(
    clustered: bool,
) -> None:
    rng = np.random.default_rng(5)
    targets = rng.normal(size=1200)
    noise = np.where(np.arange(1200) < 600, 0.1, 3.0)
    before = targets + noise * rng.normal(size=1200)
    clusters = np.repeat(np.arange(400), 3).astype(np.int32) if clustered else None
    everywhere = np.ones(1200, dtype=bool)
    gone = np.arange(1200) >= 600
    now = np.where(gone, before.mean(), before)
    better = measure(Pairs(before, now, gone, targets, clusters), 0.01)
    assert better.change is not None
    assert better.change > 0.05
    assert judge([better])[0].verdict == "preserved", "if they still got their values"
    found = measure(Pairs(before, now, gone, targets, clusters, (everywhere, ~gone)), 0.01)
    assert (found.losses, found.gains, found.change) == (600, 0, better.change)
    assert judge([found])[0].verdict == "lost"
    assert found.margin_provable is not None
    assert found.margin_provable > 0.5
    back = measure(Pairs(now, before, gone, targets, clusters, (~gone, everywhere)), 0.01)
    assert (back.losses, back.gains) == (0, 600)
    assert judge([back])[0].verdict != "preserved", "the correlation fell"


def test_rows_that_went_elsewhere_before_and_now_are_no_doubt_about_values() -> None:
    rng = np.random.default_rng(6)
    targets = rng.normal(size=2000)
    before = targets + 0.3 * rng.normal(size=2000)
    home = np.arange(2000) > 0
    values = np.where(home, before, before.mean())
    moved = Pairs(values, values, ~home, targets, None, (home, home))
    found = measure(moved, 0.01)
    assert (found.flips, found.losses, found.change) == (1, 0, 0.0)
    assert judge([found])[0].verdict == "preserved"


def test_few_rows_cannot_prove_that_values_are_preserved() -> None:
    rng = np.random.default_rng(1)
    targets = rng.normal(size=60)
    before = targets + 0.01 * rng.normal(size=60)
    flipped = np.arange(60) == 7
    reached = np.ones(60, dtype=bool), ~flipped
    now = np.where(flipped, targets, before)
    found = measure(Pairs(before, now, flipped, targets, None, reached), 0.01)
    assert judge([found])[0].verdict == "inconclusive"
    assert found.margin_possible == pytest.approx(margin_without_loss(60))


def test_clustered_rows_are_judged_by_cluster_and_clusters_of_one_do_not() -> None:
    one = pairs(390, 6, 4)
    number = np.repeat(np.arange(100), 4).astype(np.int32)
    together = measure(Pairs(one.before, one.now, one.flipped, clusters=number), 0.01)
    assert (together.method, together.clusters) == ("cluster-t", 100)
    single = measure(
        Pairs(one.before, one.now, one.flipped, clusters=np.arange(400, dtype=np.int32)), 0.01
    )
    assert single == measure(one, 0.01)


def test_clusters_survive_being_stored_and_evidence_without_them_keeps_its_bytes() -> None:
    logits = np.array([[0, 1], [1, 0], [0, 1]], dtype=np.float32)
    targets = np.array([1, 0, 0], dtype=np.int32)
    digests = tuple(f"{row:064x}" for row in range(3))
    plain = Predictions(logits, targets, digests)
    linked = Predictions(logits, targets, digests, np.array([0, 1, 0], dtype=np.int32))
    assert Predictions.from_bytes(plain.to_bytes(), "test").clusters is None
    again = Predictions.from_bytes(linked.to_bytes(), "test")
    assert again.clusters is not None
    assert again.clusters.tolist() == [0, 1, 0]
    assert again.to_bytes() == linked.to_bytes() != plain.to_bytes()
