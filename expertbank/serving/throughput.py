"""What a pass costs, and how fast rows are answered when there are enough of them."""

from __future__ import annotations

from math import inf

_WEIGHT = 0.1
"""Of the newest pass in the mean."""


class Throughput:
    """Seconds a row in full passes, as a moving mean. Written by one thread, read by any.

    Passes that were not full tell nothing: a row that is alone costs nearly what ten cost together.
    """

    def __init__(self) -> None:
        self._seconds_a_row: float | None = None

    @property
    def rows_per_second(self) -> float | None:
        """``None`` before the first full pass."""
        each = self._seconds_a_row
        return None if each is None else 1 / each

    def note(self, rows: int, seconds: float) -> None:
        """A full pass of so many rows took so long."""
        each = max(seconds, 1e-9) / rows
        before = self._seconds_a_row
        self._seconds_a_row = each if before is None else before + _WEIGHT * (each - before)

    def seconds_for(self, rows: int) -> float | None:
        """How long so many rows take; ``None`` before the first full pass."""
        each = self._seconds_a_row
        return None if each is None else rows * each


_KEPT = 0.97
"""Of what was measured, at every further pass."""
_FEWEST = 4.0
"""Passes, or as much as is kept of more, before anything is said."""
_LEAST = 8.0
"""Tokens: less is not believed."""


class PassCost:
    """What a pass costs whatever is in it, in tokens: a line through sizes and seconds.

    On a CPU that is little, and short rows are better kept apart from long ones; on a GPU it is
    nearly all, and the fewer passes the better. Used by one thread.
    """

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    @property
    def fixed(self) -> float:
        """Tokens; infinite while it is not known."""
        if self._weight < _FEWEST:
            return inf
        x, y = self._x / self._weight, self._y / self._weight
        spread = self._xx / self._weight - x * x
        together = self._xy / self._weight - x * y
        if spread < (0.1 * x) ** 2 or together <= 0:
            return inf
        slope = together / spread
        return max((y - slope * x) / slope, _LEAST)

    def note(self, tokens: int, seconds: float) -> None:
        """A pass over so many tokens, padding included, took so long."""
        self._weight = _KEPT * self._weight + 1
        self._x = _KEPT * self._x + tokens
        self._y = _KEPT * self._y + seconds
        self._xx = _KEPT * self._xx + tokens * tokens
        self._xy = _KEPT * self._xy + tokens * seconds
