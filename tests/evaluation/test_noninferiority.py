"""Tango's score test against the likelihood maximised by search, and its error by simulation."""

from __future__ import annotations

from math import comb, inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import multinomial, norm

from expertbank.evaluation.noninferiority import (
    constrained_loss_rate,
    margin_without_loss,
    p_noninferior,
    score,
    score_interval,
    smallest_margin,
)


def likelihood(q: float, gains: int, losses: int, n: int, change: float) -> float:
    """Log-likelihood of a trinomial with shares ``q + change``, ``q`` and the rest."""
    shares = (q + change, q, 1 - 2 * q - change)
    counts = (gains, losses, n - gains - losses)
    if any(share <= 0 < count for share, count in zip(shares, counts, strict=True)):
        return -inf
    return sum(c * log(s) for s, c in zip(shares, counts, strict=True) if c)


def searched(gains: int, losses: int, n: int, change: float) -> float:
    low, high = max(0.0, -change), (1 - change) / 2
    found = minimize_scalar(
        lambda q: -max(likelihood(q, gains, losses, n, change), -1e9),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return float(found.x)


tables = st.integers(5, 400).flatmap(
    lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n)).filter(
        lambda t: t[0] + t[1] <= n
    )
)


@settings(max_examples=150, derandomize=True)
@given(tables, st.floats(-0.6, 0.6))
def test_the_closed_form_is_the_maximum_of_the_likelihood(table, change) -> None:
    gains, losses, n = table
    q = float(constrained_loss_rate(gains, losses, n, change))
    best = likelihood(searched(gains, losses, n, change), gains, losses, n, change)
    edge = 1e-12  # on the edge a share may round to just below nothing
    low, high = max(0.0, -change) + edge, (1 - change) / 2 - edge
    ours = likelihood(min(max(q, low), high), gains, losses, n, change)
    assert ours >= best - 1e-5 * (1 + abs(best))


@settings(max_examples=60, derandomize=True)
@given(tables.filter(lambda t: 0 < t[0] + t[1] < t[2]), st.sampled_from([0.8, 0.9, 0.95]))
def test_the_interval_ends_where_the_searched_score_meets_the_critical_value(table, level) -> None:
    gains, losses, n = table

    def z(change: float) -> float:
        q = searched(gains, losses, n, change)
        variance = n * (2 * q + change - change * change)
        return (gains - losses - n * change) / variance**0.5

    critical = norm.ppf(0.5 + level / 2)
    low, high = score_interval(gains, losses, n, level)
    observed = (gains - losses) / n
    expected_low = brentq(lambda d: z(d) - critical, -0.9999, observed, xtol=1e-9)
    expected_high = brentq(lambda d: z(d) + critical, observed, 0.9999, xtol=1e-9)
    assert low == pytest.approx(expected_low, abs=2e-5)
    assert high == pytest.approx(expected_high, abs=2e-5)


@settings(max_examples=60, derandomize=True)
@given(tables, st.floats(0.001, 0.3))
def test_gains_and_losses_are_mirror_images(table, change) -> None:
    gains, losses, n = table
    assert score(gains, losses, n, change) == pytest.approx(
        -score(losses, gains, n, -change), abs=1e-8
    )
    low, high = score_interval(gains, losses, n)
    assert score_interval(losses, gains, n) == pytest.approx((-high, -low), abs=1e-9)
    assert -1 <= low <= (gains - losses) / n <= high <= 1


@pytest.mark.parametrize("n", [30, 268, 299, 2000])
def test_without_a_discordant_row_the_score_is_known(n: int) -> None:
    # q is the margin itself, so z = nΔ / sqrt(nΔ(1 − Δ)).
    assert float(score(0, 0, n, -0.01)) == pytest.approx((n * 0.01 / 0.99) ** 0.5)


def test_against_no_change_it_is_mcnemars_statistic() -> None:
    assert float(score(4, 9, 200, 0.0)) == pytest.approx((4 - 9) / 13**0.5)
    assert float(score(0, 0, 200, 0.0)) == 0


def test_no_loss_proves_one_point_from_299_rows_on() -> None:
    assert p_noninferior(0, 0, 298, 0.01) > 0.05
    assert p_noninferior(0, 0, 299, 0.01) <= 0.05
    assert norm.sf(score(0, 0, 268, -0.01)) <= 0.05, "the normal curve alone is content with fewer"
    assert margin_without_loss(299) <= 0.01 < margin_without_loss(298)
    assert margin_without_loss(299) == pytest.approx(1 - 0.05 ** (1 / 299))


def enumerated(gains: int, losses: int, n: int, margin: float) -> float:
    """The exact p-value by visiting every outcome, for shares of losing rows on a grid."""
    observed = float(score(gains, losses, n, -margin))
    outcomes = [(x, y) for y in range(n + 1) for x in range(n + 1 - y)]
    extreme = [t for t in outcomes if float(score(*t, n, -margin)) >= observed - 1e-9]
    worst = 0.0
    for lost in np.linspace(margin, (1 + margin) / 2, 400):
        gained = lost - margin
        rest = max(1 - lost - gained, 0.0)
        chance = sum(
            comb(n, x) * comb(n - x, y) * gained**x * lost**y * rest ** (n - x - y)
            for x, y in extreme
        )
        worst = max(worst, chance)
    return worst


@pytest.mark.parametrize(
    ("gains", "losses", "n", "margin"),
    [(0, 0, 14, 0.2), (1, 0, 14, 0.1), (2, 1, 16, 0.2), (3, 2, 14, 0.25), (0, 1, 16, 0.3)],
)
def test_the_exact_size_is_that_of_every_outcome_visited(gains, losses, n, margin) -> None:
    normal = float(norm.sf(score(gains, losses, n, -margin)))
    exact = max(enumerated(gains, losses, n, margin), normal)
    assert p_noninferior(gains, losses, n, margin) == pytest.approx(exact, abs=2e-3)


def test_the_worst_share_is_found_where_nearly_every_row_is_discordant() -> None:
    gains, losses, n, margin = 10, 8, 100, 0.05
    x, y = (side.ravel() for side in np.mgrid[: n + 1, : n + 1])
    extreme = (x + y <= n) & (score(x, y, n, -margin) >= score(gains, losses, n, -margin) - 1e-9)
    x, y = x[extreme], y[extreme]
    counts = np.stack([x, y, n - x - y], 1)
    chances = [
        multinomial.pmf(counts, n, [lost - margin, lost, max(1 + margin - 2 * lost, 0)]).sum()
        for lost in np.linspace(0.5, (1 + margin) / 2, 120)
    ]
    assert max(chances) > 0.058, "by far more than the normal curve has it"
    assert p_noninferior(gains, losses, n, margin) == pytest.approx(max(chances), abs=2e-4)


@pytest.mark.parametrize(("gains", "losses", "n"), [(0, 0, 60), (1, 3, 200), (20, 25, 1500)])
def test_the_smallest_margin_is_where_the_proof_begins(gains: int, losses: int, n: int) -> None:
    margin = smallest_margin(gains, losses, n)
    assert p_noninferior(gains, losses, n, margin + 1e-9) <= 0.05
    assert p_noninferior(gains, losses, n, margin - 3e-4) > 0.05
    assert margin >= -score_interval(gains, losses, n)[0] - 1e-9


@pytest.mark.parametrize("n", [200, 299, 473, 1000, 2000])
@pytest.mark.parametrize("discordance", [0.01, 0.02, 0.05, 0.2])
def test_a_true_loss_of_the_margin_is_called_preserved_in_five_percent_of_reports_at_most(
    n: int, discordance: float
) -> None:
    margin, reports = 0.01, 20_000
    lost = (discordance + margin) / 2
    draws = np.random.default_rng([n, int(1000 * discordance)]).multinomial(
        n, [lost - margin, lost, 1 - discordance], size=reports
    )
    outcomes, times = np.unique(draws[:, :2], axis=0, return_counts=True)
    z = score(outcomes[:, 0], outcomes[:, 1], n, -margin)
    # Only outcomes that pass the normal curve can pass the exact test; weakest first, since the
    # proof of an outcome is one of every outcome with a higher score.
    passed = 0
    proved = False
    for place in np.argsort(z):
        if z[place] < norm.ppf(0.95):
            continue
        proved = proved or p_noninferior(*map(int, outcomes[place]), n, margin) <= 0.05
        passed += int(times[place]) if proved else 0
    assert passed / reports <= 0.05 + 3 * (0.05 * 0.95 / reports) ** 0.5
