"""BCa bootstrap of a change, where rows are no matched yes-or-no pairs of their own.

Two cases need it: rows that come in clusters (all sentences of one contract stand or fall
together, so clusters are drawn, not rows), and regression, whose quality is a correlation.
Source: B. Efron, "Better bootstrap confidence intervals", JASA 82 (1987), sections 3 and 4;
the resampling is SciPy's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
RESAMPLES = 9999
SEED = 20250421
"""The report draws the same resamples whenever it is made, so its figures can be compared."""
_DRAWN = 2**20
"""Units drawn at once, whatever their number: what bounds the memory taken."""
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Resampled:
    """A change of quality and how it spreads over resamples.

    Attributes:
        change: of the rows as they are.
        units: clusters that were drawn; 0 where the change is not one of accuracy.
        moved: how many clusters or rows are better or worse than before.
        interval: 90% BCa interval; each end is a one-sided 95% bound.
        draws: ``[resamples]`` sorted changes; empty where nothing varies.
        bias: BCa's ``z0``.
        acceleration: BCa's ``a``.
    """

    change: float
    units: int
    moved: int
    interval: tuple[float, float]
    draws: Array
    bias: float
    acceleration: float

    def p_at_most(self, bound: float) -> float:
        """One-sided p-value against a true change of ``bound`` or less.

        The level at which BCa's lower bound meets ``bound``: its percentile formula solved for
        the level. For accuracies never below ``(1 + bound)^units``, the chance that as many
        clusters show no loss where that share of them is lost: the bootstrap alone takes what it
        never drew for impossible.
        """
        floor = max(0.0, 1.0 + bound) ** self.units if bound < 0 and self.units else 0.0
        if not len(self.draws):
            return max(floor, 0.0 if self.change > bound else 1.0)
        return max(floor, self._level(bound))

    def p_at_least(self, bound: float) -> float:
        """One-sided p-value against a true change of ``bound``, 0 or less, or more.

        Never below ``½^moved``, the sign test's: where nothing changes in truth, each unit that
        moved is as likely to be better as worse, and all may be worse by chance.
        """
        floor = 0.5**self.moved
        if not len(self.draws):
            return max(floor, 0.0 if self.change < bound else 1.0)
        return max(floor, 1.0 - self._level(bound))

    def _level(self, bound: float) -> float:
        below = np.searchsorted(self.draws, bound, "left")
        upto = np.searchsorted(self.draws, bound, "right")
        share = (below + upto) / 2 / len(self.draws)
        if share in {0.0, 1.0}:
            return float(share)
        w = _NORMAL.inv_cdf(float(share)) - self.bias
        scale = 1 + self.acceleration * w
        return _NORMAL.cdf(w / scale - self.bias) if scale > 0 else float(share)


def clustered_change(differences: Array, clusters: npt.NDArray[np.int32]) -> Resampled:
    """Mean of per-row differences, clusters drawn with replacement.

    Args:
        differences: ``[rows]`` 1 for a gained, −1 for a lost row, else 0.
        clusters: ``[rows]`` cluster numbers; the same number, the same cluster.
    """
    _, place = np.unique(clusters, return_inverse=True)
    sums = np.asarray(np.bincount(place, weights=differences), dtype=np.float64)
    sizes = np.asarray(np.bincount(place), dtype=np.float64)

    def mean(total: Array, size: Array) -> Array:
        return np.asarray(total / size, dtype=float)

    return _resample((sums, sizes), mean, units=len(sums), moved=int(np.count_nonzero(sums)))


def correlation_change(
    before: Array, now: Array, targets: Array, clusters: npt.NDArray[np.int32] | None = None
) -> Resampled | None:
    """Pearson's correlation now minus before, rows (or clusters) drawn with replacement.

    Sums and products per unit are enough to work out both correlations, so drawing clusters
    costs no more than drawing rows.

    Args:
        before: ``[rows]`` values answered before.
        now: ``[rows]`` values answered now.
        targets: ``[rows]`` true values.
        clusters: ``[rows]`` cluster numbers, ``None`` where each row stands alone.

    Returns:
        ``None`` where a correlation is not defined.
    """
    if min(len(targets), *(np.ptp(side) for side in (before, now, targets))) <= 0:
        return None
    place = np.arange(len(targets))
    if clusters is not None:
        place = np.unique(clusters, return_inverse=True)[1]
    # Correlations do not change by shifts, and centred sums lose no digits.
    x, y, t = (np.asarray(side, float) - np.mean(side) for side in (before, now, targets))
    parts = (np.ones(len(t)), x, y, t, x * x, y * y, t * t, x * t, y * t)
    sums = tuple(np.asarray(np.bincount(place, weights=part), dtype=np.float64) for part in parts)

    def difference(*totals: Array) -> Array:
        n, sx, sy, st, sxx, syy, stt, sxt, syt = totals

        def correlation(s: Array, ss: Array, cross: Array) -> Array:
            # What is left of a sum of squares where nothing varies is rounding.
            own, other = _spread(n, s, ss), _spread(n, st, stt)
            spread = own * other
            safe = np.where(spread > 0, spread, 1.0)
            return np.where(spread > 0, (cross - s * st / n) / np.sqrt(safe), 0.0)

        return np.asarray(correlation(sy, syy, syt) - correlation(sx, sxx, sxt), dtype=float)

    moved = len(np.unique(place[before != now]))
    return _resample(sums, difference, units=0, moved=moved, most=2.0)


def _spread(n: Array, total: Array, squares: Array) -> Array:
    """``n`` times the variance; zero where it is no more than rounding of the squares."""
    left = squares - total * total / n
    return np.where(left > 1e-12 * squares, left, 0.0)


def _resample(
    parts: tuple[Array, ...],
    of_totals: Callable[..., Array],
    *,
    units: int,
    moved: int,
    most: float = 1.0,
) -> Resampled:
    """Resample units, whose parts (``[units]`` each) make the statistic by their totals alone.

    ``most`` is how far it can be from zero.
    """
    from scipy.stats import bootstrap

    count = len(parts[0])
    totals = [part.sum() for part in parts]
    change = float(of_totals(*totals))
    # [units] the statistic with each unit left out in turn (the jackknife).
    left_out = np.zeros(1)
    if count > 1:
        left_out = of_totals(*(total - part for total, part in zip(totals, parts, strict=True)))
    if np.ptp(left_out) <= 1e-12:
        reach = 1 - 0.05 ** (1 / count)
        ends = max(-most, change - reach), min(most, change + reach)
        return Resampled(change, units, moved, ends, np.empty(0), 0.0, 0.0)

    def statistic(*drawn: Array, axis: int = -1) -> Array:
        return of_totals(*(part.sum(axis=axis) for part in drawn))

    # SciPy's own BCa would run a jackknife of count x count values, and keep what the p-values
    # need (z0 and a) to itself.
    found: Any = bootstrap(
        parts,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _DRAWN // count),
        method="percentile",
        random_state=np.random.default_rng(SEED),
    )
    draws = np.sort(np.asarray(found.bootstrap_distribution, dtype=float))
    below = ((draws < change).sum() + (draws <= change).sum()) / 2 / len(draws)
    bias = _NORMAL.inv_cdf(float(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws))))
    away = left_out.mean() - left_out
    acceleration = float((away**3).sum() / (6 * (away**2).sum() ** 1.5))
    interval = float(draws[0]), float(draws[-1])
    if 0 < below < 1:  # else hardly any resample differs from the rest
        low, high = np.quantile(draws, [_level(bias, acceleration, end) for end in (0.05, 0.95)])
        interval = float(low), float(high)
    return Resampled(change, units, moved, interval, draws, bias, acceleration)


def _level(bias: float, acceleration: float, end: float) -> float:
    """Which quantile of the draws is BCa's bound at ``end`` (Efron's equation 3.5)."""
    z = bias + _NORMAL.inv_cdf(end)
    return _NORMAL.cdf(bias + z / (1 - acceleration * z))
