"""How fast rows are answered when there are enough of them."""

from __future__ import annotations

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
