"""Proofs about a change where rows are no matched yes-or-no pairs of their own.

Two cases need them: rows that come in clusters (all sentences of one contract stand or fall
together), and regression, whose quality is a correlation. Both are asked of independent *units*:
clusters, or rows. Each unit says something of the change, and has a *stake*: what would be lost
if it were lost altogether.

The test is Student's on what the units say, with two precautions. Losses are rare, so rows that
were lucky show few of them, and vary too little to tell: one more unit is added that is lost, of
the stake that the unit of a random row has (the root mean square of it). Against no loss it is
one that gained, as far as the unit that moved farthest. And the degrees of freedom are those of
the effective number of units, ``(Σ stakes)² / Σ stakes²``: a few large clusters decide as much as
so many equal ones (L. Kish, "Survey Sampling", 1965, section 11.7).
``examples/benchmarks/error_rates.py`` counts how often the proof is wrong, for clusters of several
sizes and shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
ALPHA = 0.05
_BISECTIONS = 40


@dataclass(frozen=True)
class Units:
    """Independent units, and what each says of a change of quality.

    Attributes:
        says: ``[units]``; the change is their sum over that of ``weights``.
        weights: ``[units]`` how much each counts.
        stakes: ``[units]`` by how much ``says`` would fall with the unit lost; not negative.
        moved: how many units are better or worse than before.
        most: how far from zero the change can be.
    """

    says: Array
    weights: Array
    stakes: Array
    moved: int
    most: float = 1.0

    @cached_property
    def change(self) -> float:
        """Quality now minus before."""
        return float(self.says.sum() / self.weights.sum())

    @cached_property
    def effective(self) -> float:
        """How many equal units would decide as much as these."""
        squares = float((self.stakes**2).sum())
        return float(self.stakes.sum()) ** 2 / squares if squares else float(len(self.stakes))

    @cached_property
    def whole(self) -> float:
        """What is lost where every unit is: 1 for accuracy."""
        return float(self.stakes.sum() / self.weights.sum())

    @cached_property
    def _stake(self) -> float:
        """That of the unit of a random row, as a root mean square."""
        total = float(self.stakes.sum())
        return float(((self.stakes**3).sum() / total) ** 0.5) if total else 0.0

    def p_at_most(self, bound: float) -> float:
        """One-sided p-value against a true change of ``bound`` or less.

        For a loss never below the chance that so many units show none where that share of them
        is lost.
        """
        floor = 0.0
        if bound < 0 and self.whole:
            floor = max(0.0, 1.0 + bound / self.whole) ** self.effective
        return max(floor, self._p(bound, 1))

    def p_at_least(self, bound: float) -> float:
        """One-sided p-value against a true change of ``bound``, 0 or less, or more.

        Never below ``½^moved``, the sign test's: where nothing changes in truth, each unit that
        moved is as likely to be better as worse, and all may be worse by chance.
        """
        return max(0.5**self.moved, self._p(bound, -1))

    @property
    def interval(self) -> tuple[float, float]:
        """The changes that the tests do not refute; each end is a one-sided 95% bound."""
        upper = self._bound(self.most, lambda bound: self._p(bound, -1))
        return self._bound(-self.most, self.p_at_most), upper

    @property
    def margin_provable(self) -> float:
        """The smallest margin for which ``p_at_most`` is at most ``ALPHA``; else ``most``."""
        low, high = 0.0, self.most
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.p_at_most(-middle) <= ALPHA else (middle, high)
        return high

    def without_loss(self) -> Units:
        """The same units where none had moved."""
        return replace(self, says=np.zeros_like(self.says), moved=0)

    def _p(self, bound: float, sign: int) -> float:
        """Of a true change no better (``sign`` 1) or no worse (−1) than ``bound``."""
        from scipy.stats import t

        moved = self._stake if sign > 0 else min(self._stake, float(np.abs(self.says).max()))
        weight = moved / self.whole if self.whole else 0.0
        above = np.append(sign * (self.says - bound * self.weights), -moved - sign * bound * weight)
        count = len(above)
        error = float(above.std(ddof=1)) * count**0.5
        total = float(above.sum())
        if error <= 1e-12 * count:
            return 0.0 if total > 0 else 1.0
        return float(t.sf(total / error, max(1.0, self.effective - 1)))

    def _bound(self, outer: float, p: Callable[[float], float]) -> float:
        inner = self.change
        for _ in range(_BISECTIONS):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if p(middle) > ALPHA else (inner, middle)
        return inner


def is_clustered(
    clusters: npt.NDArray[np.int32] | None,
) -> TypeGuard[npt.NDArray[np.int32]]:
    """Whether any two rows belong together; clusters of one row each are plain rows."""
    return clusters is not None and len(np.unique(clusters)) < len(clusters)


def clusters_of(differences: Array, clusters: npt.NDArray[np.int32]) -> Units:
    """The change of accuracy, said by clusters.

    Args:
        differences: ``[rows]`` 1 for a gained, −1 for a lost row, else 0.
        clusters: ``[rows]`` cluster numbers; the same number, the same cluster.
    """
    _, place = np.unique(clusters, return_inverse=True)
    sums = np.asarray(np.bincount(place, weights=differences), dtype=np.float64)
    sizes = np.asarray(np.bincount(place), dtype=np.float64)
    return Units(sums, sizes, sizes, int(np.count_nonzero(sums)))


def correlation_units(
    before: Array, now: Array, targets: Array, clusters: npt.NDArray[np.int32] | None = None
) -> Units | None:
    """The change of Pearson's correlation, said by rows or clusters: what the jackknife tells.

    A unit's stake is what the correlation now would lose if its values were the mean, as they are
    for rows that another expert answers. Source: J. Tukey, "Bias and confidence in not-quite large
    samples", Annals of Mathematical Statistics 29 (1958), 614; its correction of bias is left out.

    Args:
        before: ``[rows]`` values answered before.
        now: ``[rows]`` values answered now.
        targets: ``[rows]`` true values.
        clusters: ``[rows]`` cluster numbers, ``None`` where each row stands alone.

    Returns:
        ``None`` where a correlation is not defined.
    """
    sides = (before, now, targets)
    if not all(len(side) and np.ptp(side) > 0 and np.isfinite(side).all() for side in sides):
        return None
    place = np.arange(len(targets))
    if clusters is not None:
        place = np.unique(clusters, return_inverse=True)[1]
    # Correlations do not change by shifts. The middle value stays near the others whatever one
    # row holds, and the mean answer, which the stakes need, is told apart from it.
    x, y, t = (np.asarray(side, float) - np.median(side) for side in (before, now, targets))

    def sums(*parts: Array) -> list[Array]:
        return [np.asarray(np.bincount(place, weights=part), dtype=float) for part in parts]

    of_targets = sums(np.ones(len(t)), t, t * t)
    of_before, of_now = sums(x, x * x, x * t), sums(y, y * y, y * t)
    everything = [[part.sum() for part in parts] for parts in (of_targets, of_before, of_now)]
    change = float(_correlation(everything[0], everything[2]))
    change -= float(_correlation(everything[0], everything[1]))
    left_out = [[_others(part) for part in parts] for parts in (of_targets, of_before, of_now)]
    without = _correlation(left_out[0], left_out[2]) - _correlation(left_out[0], left_out[1])
    mean = y.mean()
    sizes, totals = of_targets[0], of_targets[1]
    at_the_mean = [sizes * mean, sizes * mean**2, totals * mean]
    lost = _correlation(everything[0], everything[2]) - _correlation(
        everything[0],
        [part + own for part, own in zip(left_out[2], at_the_mean, strict=True)],
    )
    count = len(without)
    return Units(
        change + (count - 1) * (without.mean() - without),
        np.ones(count),
        count * np.maximum(lost, 0.0),
        len(np.unique(place[before != now])),
        most=2.0,
    )


def _others(parts: Array) -> Array:
    """``[units]`` the sum of all others' parts; one that outweighs them all costs no digits."""
    before = np.concatenate([[0.0], np.cumsum(parts[:-1])])
    after = np.concatenate([np.cumsum(parts[:0:-1])[::-1], [0.0]])
    return np.asarray(before + after, dtype=float)


def _correlation(of_targets: list[Array], own: list[Array]) -> Array:
    """From sums: ``n, Σt, Σt²`` and ``Σx, Σx², Σxt``; 0 where either side does not vary."""
    n, t, tt = of_targets
    x, xx, xt = own
    spread = _spread(n, x, xx) * _spread(n, t, tt)
    safe = np.where(spread > 0, spread, 1.0)
    return np.asarray(np.where(spread > 0, (n * xt - x * t) / np.sqrt(safe), 0.0), dtype=float)


def _spread(n: Array, total: Array, squares: Array) -> Array:
    """``n²`` times the variance; zero where it is no more than rounding of the squares."""
    left = n * squares - total * total
    return np.where(left > 1e-12 * n * squares, left, 0.0)
