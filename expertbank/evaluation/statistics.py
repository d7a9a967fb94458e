"""Tests of significance, from SciPy."""

from __future__ import annotations

from collections.abc import Sequence


def p_beats_constant(right: Sequence[bool], constant_right: Sequence[bool]) -> float:
    """One-sided exact McNemar p-value that answers beat a constant answer on the same rows.

    Only rows where exactly one of the two is right carry information; under the null
    hypothesis each of them goes either way with probability one half.

    Args:
        right: per row whether the expert was right.
        constant_right: per row whether always answering the majority class would be.
    """
    from scipy.stats import binomtest

    pairs = list(zip(right, constant_right, strict=True))
    wins = sum(ours and not theirs for ours, theirs in pairs)
    losses = sum(theirs and not ours for ours, theirs in pairs)
    if wins + losses == 0:
        return 1.0
    return float(binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue)
