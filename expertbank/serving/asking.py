"""What is asked of a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from expertbank.records import Row
from expertbank.writing import GREEDY, Sampling

AUTO = "auto"
"""The model that routes."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: rows that are answered in the same way, and together.

    Attributes:
        rows: what to answer; at least one.
        model: ``auto`` to route, or the name of a task or of a group. A task or group that is
            called ``auto`` cannot be named.
        version: of the task's expert; with ``auto`` of the router, which must be the one in use.
            ``None`` for the newest.
        abstain: with ``auto``, answer ``unknown`` to rows that are like no task.
        fallback: with ``auto``, the task that answers such rows instead.
        whole: refuse rows that are longer than the bank's longest sequence, instead of cutting
            them.
        sampling: what is wanted of answers that are written.
        drawn_apart: whether each row draws for itself; else the same prompt has the same answer.
        told: takes a row's position and what of its answer is settled, on the worker's thread,
            while it is written; false ends it.
        only_routed: only who would answer is asked: no expert is, and no answer comes back.
    """

    rows: tuple[Row, ...]
    model: str = AUTO
    version: int | None = None
    abstain: bool = False
    fallback: str | None = None
    whole: bool = False
    sampling: Sampling = GREEDY
    drawn_apart: bool = False
    told: Callable[[int, str], bool] | None = None
    only_routed: bool = False

    def sampling_of(self, place: int) -> Sampling:
        """How the answer of the row at ``place`` is written."""
        if not self.drawn_apart:
            return self.sampling
        return replace(self.sampling, seed=(self.sampling.seed + place) % 2**63)
