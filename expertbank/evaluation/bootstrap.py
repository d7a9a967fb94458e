"""BCa bootstrap of a change, where rows are no matched yes-or-no pairs of their own.

Two cases need it: rows that come in clusters (all sentences of one contract stand or fall
together, so clusters are drawn, not rows), and regression, whose quality is a correlation.
Source: B. Efron, "Better bootstrap confidence intervals", JASA 82 (1987), sections 3 and 4;
the resampling and the interval are SciPy's.
"""

from __future__ import annotations

import math
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
_BATCH = 250
_BATCH_NUMBERS = 1_000_000
"""Resamples drawn at a time, and units in all of them: memory does not grow with the square."""
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Resampled:
    """A change of quality and how it spreads over resamples.

    Attributes:
        change: of the rows as they are.
        units: clusters that were drawn; 0 where the change is not one of accuracy.
        interval: 90% BCa interval; each end is a one-sided 95% bound.
        draws: ``[resamples]`` sorted changes; empty where nothing varies.
        bias: BCa's ``z0``.
        acceleration: BCa's ``a``.
    """

    change: float
    units: int
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
        """One-sided p-value against a true change of ``bound`` or more."""
        if not len(self.draws):
            return 0.0 if self.change < bound else 1.0
        return 1.0 - self._level(bound)

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

    def mean(total: Array, size: Array, axis: int = -1) -> Array:
        return np.asarray(total.sum(axis=axis) / size.sum(axis=axis), dtype=float)

    return _resample((sums, sizes), mean, units=len(sums))


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

    def difference(*drawn: Array, axis: int = -1) -> Array:
        n, sx, sy, st, sxx, syy, stt, sxt, syt = (part.sum(axis=axis) for part in drawn)

        def correlation(s: Array, ss: Array, cross: Array) -> Array:
            spread = np.maximum(ss - s * s / n, 0) * np.maximum(stt - st * st / n, 0)
            safe = np.where(spread > 0, spread, 1.0)
            return np.where(spread > 0, (cross - s * st / n) / np.sqrt(safe), 0.0)

        return np.asarray(correlation(sy, syy, syt) - correlation(sx, sxx, sxt), dtype=float)

    return _resample(sums, difference, units=0)


def _resample(
    parts: tuple[Array, ...], statistic: Callable[..., Array], *, units: int
) -> Resampled:
    from scipy.stats import bootstrap

    count = len(parts[0])
    change = float(statistic(*parts))
    left_out = _jackknife(parts, statistic) if count > 1 else np.zeros(1)
    if np.ptp(left_out) <= 1e-12:  # what is left of digits where nothing varies
        reach = 1 - 0.05 ** (1 / count)
        return Resampled(
            change, units, (max(-1.0, change - reach), change + reach), np.empty(0), 0.0, 0.0
        )
    found: Any = bootstrap(
        parts,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=min(_BATCH, max(1, _BATCH_NUMBERS // count)),
        confidence_level=0.90,
        method="BCa",
        random_state=np.random.default_rng(SEED),
    )
    draws = np.sort(np.asarray(found.bootstrap_distribution, dtype=float))
    share = ((draws < change).sum() + (draws <= change).sum()) / 2 / len(draws)
    share = min(max(share, 0.5 / len(draws)), 1 - 0.5 / len(draws))
    away = left_out.mean() - left_out
    acceleration = float((away**3).sum() / (6 * (away**2).sum() ** 1.5))
    low, high = float(found.confidence_interval.low), float(found.confidence_interval.high)
    if math.isnan(low) or math.isnan(high):  # hardly any resample differs from the rest
        low, high = float(draws[0]), float(draws[-1])
    return Resampled(change, units, (low, high), draws, _NORMAL.inv_cdf(float(share)), acceleration)


def _jackknife(parts: tuple[Array, ...], statistic: Callable[..., Array]) -> Array:
    """``[units]`` the statistic with each unit left out in turn: its part taken from the sums."""
    return statistic(*((part.sum() - part)[:, None] for part in parts))
