"""Exact tests on matched pairs, and Holm's correction for several tasks at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def p_beats_constant(right: Sequence[bool], constant_right: Sequence[bool]) -> float:
    """One-sided exact McNemar p-value that answers beat a constant answer on the same rows.

    Only rows where exactly one of the two is right carry information; under the null
    hypothesis each of them goes either way with probability one half.

    Args:
        right: per row whether the expert was right.
        constant_right: per row whether always answering the majority class would be.
    """
    pairs = list(zip(right, constant_right, strict=True))
    wins = sum(ours and not theirs for ours, theirs in pairs)
    losses = sum(theirs and not ours for ours, theirs in pairs)
    return p_more_often(wins, losses)


def p_by_signs(sums: Sequence[int]) -> float:
    """One-sided exact p-value that independent units lean above zero.

    Under the null hypothesis each unit's sum is as likely to be negative as positive: the share of
    all patterns of signs with a total as high as this one (R. A. Fisher, "The Design of
    Experiments", 1935, section 21). Of units of one row it is McNemar's exact test.

    Args:
        sums: per unit, such as a cluster of rows, rows won less rows lost.
    """
    moved = [abs(one) for one in sums if one]
    # ``shares[t]`` of the patterns give positive signs to units that make up t rows.
    shares = np.zeros(sum(moved) + 1)
    shares[0], reached = 1.0, 0
    for size in moved:
        reached += size
        shares[size : reached + 1] += shares[: reached + 1 - size].copy()
        shares[: reached + 1] /= 2
    return min(1.0, float(shares[(sum(moved) + sum(sums)) // 2 :].sum()))


def p_more_often(ours: int, theirs: int) -> float:
    """One-sided exact binomial p-value that of two equally likely outcomes the first wins.

    With ``ours`` the lost and ``theirs`` the gained rows this is McNemar's exact test of a
    loss (McNemar, Psychometrika 12 (1947), in its conditional, exact form).
    """
    from scipy.stats import binomtest

    if ours + theirs == 0:
        return 1.0
    return float(binomtest(ours, ours + theirs, 0.5, alternative="greater").pvalue)


def p_mcnemar(gains: int, losses: int) -> float:
    """Two-sided exact McNemar p-value that right answers changed in either direction.

    A large value is no evidence that nothing was lost: five lost rows and no gained one give
    0.0625.
    """
    from scipy.stats import binomtest

    if gains + losses == 0:
        return 1.0
    return float(binomtest(losses, gains + losses, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values that hold the chance of any false claim (Holm, Scand. J. Stat. 6, 1979).

    Args:
        p_values: one per task.

    Returns:
        In the same order; comparing each with 0.05 keeps the chance of one or more false claims
        over all tasks at 5%, whatever the tasks have to do with each other.
    """
    order = np.argsort(np.asarray(p_values, dtype=float), kind="stable")
    adjusted = np.empty(len(order))
    running = 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = running
    return tuple(float(value) for value in adjusted)
