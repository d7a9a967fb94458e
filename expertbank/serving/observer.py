"""Who is told what a server does: counters, histograms, logs."""

from __future__ import annotations


class Observer:
    """Told of what happens; does nothing by itself, so override what matters.

    Methods are called from several threads, the worker's among them: they must be quick and must
    not raise.
    """

    def queued(self, rows: int, tokens: int) -> None:
        """A request of so many rows and real tokens was queued."""

    def batch(self, rows: int, tokens: int, seconds: float) -> None:
        """One pass answered so many rows; ``tokens`` are real ones, without padding."""

    def answered(self, task: str, unknown: bool | None, router_version: int | None) -> None:
        """One row was answered by ``task``; ``router_version`` is ``None`` where it was named."""

    def finished(self, rows: int, queued_seconds: float, inference_seconds: float) -> None:
        """One request was answered; durations as in ``Answered``."""

    def reloaded(self, ok: bool) -> None:
        """A newer state was swapped in, or could not be loaded."""

    def depth(self, rows: int) -> None:
        """So many rows wait now."""
