"""Tests of significance, in exact whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


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
    # P(at least ``wins`` heads in n throws), as a sum of binomial coefficients over 2^n.
    n = wins + losses
    term, total = 1, 1
    for tails in range(losses):
        term = term * (n - tails) // (tails + 1)
        total += term
    return float(Fraction(total, 2**n))
