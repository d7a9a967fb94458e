"""Routers over rows that a test or benchmark makes up, fitted as a bank fits its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from expertbank.records import RowShape
from expertbank.routing.columns import Entry
from expertbank.routing.config import RouterConfig
from expertbank.routing.feature_file import Spans
from expertbank.routing.fit import by_digest, fit_sums
from expertbank.routing.router import Router
from expertbank.routing.statistics import Statistics
from expertbank.routing.sums import summed


@dataclass(frozen=True, slots=True)
class TaskFeatures(Entry):
    """Cached features of one expert's training rows, ``[rows, dimension]`` float16."""

    train: Tensor
    shapes: tuple[RowShape, ...]
    tokens: Tensor | None = None
    spans: Spans | None = None
    sureness: Tensor | None = None
    guess: int | None = None


def fit_router(
    tasks: Sequence[TaskFeatures],
    config: RouterConfig,
    feature_spec_digest: str,
    *,
    rows: bool = True,
    blocks: int | None = None,
) -> Router:
    """Fit a gate on cached rows, without a bank; the same tasks in any order give the same bytes.

    Args:
        tasks: training features of every member, at least one.
        config: which gate, and its settings.
        feature_spec_digest: the spec the features were made under.
        rows: whether rows that sit out of the sums are kept; without them some are drawn.
        blocks: as in ``fit_sums``.
    """
    own = {task.id: task for task in tasks}

    def read(name: str) -> Statistics:
        one = own[name]
        found = Statistics.of(
            *(one.train, one.shapes, feature_spec_digest),
            tokens=one.tokens,
            spans=one.spans,
            sureness=one.sureness,
            guess=one.guess,
        )
        return found if rows else found.without_rows()

    names = {task.id: task.id for task in tasks}
    sums = summed(by_digest(tasks, names), read)
    return fit_sums(
        *(tasks, names, sums, config, feature_spec_digest),
        lambda i: (own[i].train, own[i].shapes),
        blocks,
    )
