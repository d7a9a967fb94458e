"""How figures are written, the same on a terminal, in Markdown and in a page."""

from __future__ import annotations

from collections.abc import Sequence

DASH = "-"
"""Where there is no figure. Plain ASCII, like the minus sign: every terminal can show it."""


def share(value: float | None) -> str:
    """A fraction with three decimals, or a dash."""
    return DASH if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """A difference with its sign, or a dash; never a minus before zero."""
    return DASH if value is None else f"{value + 0.0:+.3f}"


def whole(value: int) -> str:
    """A number of things, thousands apart."""
    return f"{value:,}"


def yes_or_not_shown(value: bool) -> str:
    """The outcome of a test: a claim that a test does not prove is not thereby false."""
    return "yes" if value else "not shown"


def p_value(value: float) -> str:
    """A p-value with two digits that matter."""
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def interval(bounds: Sequence[float]) -> str:
    """Both ends of an interval of differences."""
    return f"{signed(bounds[0])} to {signed(bounds[1])}"


def points(share: float) -> str:
    """A share as percentage points: ``1 point``, ``2.5 points``."""
    shown = f"{100 * share:.3g}"
    return f"{shown} point" if shown == "1" else f"{shown} points"
