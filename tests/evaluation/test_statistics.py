"""The exact one-sided McNemar test against closed forms and an independent implementation."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expertbank.evaluation.statistics import p_beats_constant, p_by_signs, p_more_often


def p(wins: int, losses: int, ties: int = 0) -> float:
    right = [True] * wins + [False] * losses + [True, False] * ties
    constant = [False] * wins + [True] * losses + [True, False] * ties
    return p_beats_constant(right, constant)


@pytest.mark.parametrize("n", [1, 5, 10, 100, 1000])
def test_winning_every_pair_has_the_chance_of_so_many_heads(n: int) -> None:
    assert p(n, 0) == pytest.approx(0.5**n, rel=1e-12)
    assert p(0, n) == 1


@pytest.mark.parametrize("n", [2, 10, 50])
def test_an_even_score_is_one_half_and_half_a_tie(n: int) -> None:
    from math import comb

    tie = comb(n, n // 2) / 2**n
    assert p(n // 2, n // 2) == pytest.approx(0.5 + tie / 2, rel=1e-12)


@pytest.mark.parametrize(("wins", "losses"), [(3, 1), (2, 3), (4, 4), (7, 2)])
def test_it_is_the_share_of_outcomes_at_least_as_good(wins: int, losses: int) -> None:
    outcomes = list(itertools.product([0, 1], repeat=wins + losses))
    as_good = sum(sum(outcome) >= wins for outcome in outcomes)
    assert p(wins, losses) == pytest.approx(as_good / len(outcomes), rel=1e-12)


def test_rows_that_both_have_right_or_wrong_tell_nothing() -> None:
    assert p(0, 0) == 1
    assert p(0, 0, ties=50) == 1
    assert p(6, 2, ties=50) == p(6, 2)


@given(st.integers(0, 400), st.integers(0, 400))
def test_it_agrees_with_scipy(wins: int, losses: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    if wins + losses == 0:
        return
    expected = stats.binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue
    assert p(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_evidence_of_any_size_can_be_weighed() -> None:
    assert p(10_200, 9_800) == pytest.approx(0.00239, abs=1e-4)
    assert p(20_000, 0) == 0


def test_rows_must_be_paired() -> None:
    with pytest.raises(ValueError, match="zip"):
        p_beats_constant([True], [True, False])


@given(st.lists(st.integers(-6, 6), max_size=9))
def test_signs_of_units_are_counted_pattern_by_pattern(sums: list[int]) -> None:
    patterns = list(itertools.product((-1, 1), repeat=len(sums)))
    totals = [sum(s * abs(d) for s, d in zip(signs, sums, strict=True)) for signs in patterns]
    expected = sum(total >= sum(sums) for total in totals) / len(patterns)
    assert p_by_signs(sums) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 300), st.integers(0, 300))
def test_units_of_one_row_are_mcnemars_exact_test(wins: int, losses: int) -> None:
    found = p_by_signs([1] * wins + [-1] * losses)
    assert found == pytest.approx(p_more_often(wins, losses), rel=1e-9, abs=1e-300)


def test_one_large_unit_proves_no_more_than_a_coin() -> None:
    assert p_by_signs([500]) == p_by_signs([500, -1]) == 0.5
    assert p_by_signs([]) == 1.0
