"""Fitting the router from exact sums: no text, no backbone, no expert weight is read.

Top-1 followed by a softmax gives the router no gradient from the task loss, so fitting it is
plain task classification on frozen features; caching them once is equivalent to the paper's
joint passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from expertbank.backbones.forks import computing
from expertbank.errors import InputError
from expertbank.records import RowShape
from expertbank.routing.calibration import HeldOut, best_temperature, held_out, rows_a_column
from expertbank.routing.columns import Entry, by_column, competing, members
from expertbank.routing.config import RouterConfig
from expertbank.routing.examples import Block, Examples, together
from expertbank.routing.gates import Gate, fitted_from_moments
from expertbank.routing.grid import STEP, Grid
from expertbank.routing.router import Router
from expertbank.routing.statistics import Statistics, sits_out
from expertbank.routing.sums import Sums, brought, summed
from expertbank.routing.threads import one_thread
from expertbank.routing.unknown import fit_unknown, threshold_of

E = TypeVar("E", bound=Entry)
RowsOf = Callable[[str], tuple[Tensor, Sequence[RowShape]]]
"""By expert all its training rows ``[rows, dimension]``, and what each brings."""


@dataclass(frozen=True, slots=True)
class TaskFeatures(Entry):
    """Cached features of one expert's training rows, ``[rows, dimension]`` float16."""

    train: Tensor
    shapes: tuple[RowShape, ...]


def fit_router(
    tasks: Sequence[TaskFeatures],
    config: RouterConfig,
    feature_spec_digest: str,
    *,
    rows: bool = True,
) -> Router:
    """Fit a gate on cached rows, without a bank; the same tasks in any order give the same bytes.

    Args:
        tasks: training features of every member, at least one.
        config: which gate, and its settings.
        feature_spec_digest: the spec the features were made under.
        rows: whether rows that sit out of the sums are kept; without them some are drawn.
    """
    own = {task.id: task for task in tasks}

    def read(name: str) -> Statistics:
        found = Statistics.of(own[name].train, own[name].shapes, feature_spec_digest)
        return found if rows else found.without_rows()

    names = {task.id: task.id for task in tasks}
    sums = summed(by_digest(tasks, names), read)
    return fit_sums(
        tasks, names, sums, config, feature_spec_digest, lambda i: (own[i].train, own[i].shapes)
    )


def by_digest(entries: Sequence[E], statistics: Mapping[str, str]) -> list[list[str]]:
    """By column the digests of its experts' statistics, which ``statistics`` gives by expert."""
    return [[statistics[one.id] for one in column] for column in by_column(entries)]


@computing()
def fit_sums(
    entries: Sequence[Entry],
    statistics: Mapping[str, str],
    sums: Sums,
    config: RouterConfig,
    feature_spec_digest: str,
    rows_of: RowsOf,
) -> Router:
    """Solve a gate from sums; set temperature and threshold by the rows that sat out of them.

    Closed forms give the same bytes whatever the order of the members and the number of threads.

    Args:
        entries: every member, at least one.
        statistics: by expert the digest of its statistics.
        sums: of the members' statistics.
        config: which gate, and its settings.
        feature_spec_digest: the spec the features were made under.
        rows_of: asked only for gates that are fitted on rows.

    Raises:
        InputError: as ``rows_of``.
    """
    columns, names = by_column(entries), by_digest(entries, statistics)
    reads = [{shape for name in own for shape in sums.facts[name].reads} for own in names]
    closed = config.gate.fit_moments
    with one_thread() if closed else nullcontext():
        blocks = [Block(own, sums.moments([names[c] for c in own])) for own in competing(reads)]
        if closed:
            gate: Gate = closed(blocks, config.settings)
        else:
            gate = config.gate.fit(_examples(columns, blocks, sums.grid, rows_of), config.settings)
        held = _held_out(names, sums, reads)
        temperature, unknown = 1.0, None
        if held is not None:
            if len(columns) > 1:
                temperature = best_temperature(gate, held)
            unknown = fit_unknown(together(blocks), sums.grid.width)
            scores = unknown.score(held.features, held.allowed)
            unknown = replace(unknown, threshold=threshold_of(scores, held.targets))
    own = members(columns, {one.id: sums.facts[statistics[one.id]].reads for one in entries})
    return Router(config.kind, own, feature_spec_digest, temperature, gate, unknown, sums.grid)


def _examples(
    columns: Sequence[Sequence[Entry]], blocks: Sequence[Block], grid: Grid, rows_of: RowsOf
) -> Examples:
    """The rows that the sums are of, on the grid: those that sat out sit out here too."""
    features, shapes = [], []
    for column in columns:
        parts, brings = [], []
        for one in column:
            rows, own = rows_of(one.id)
            stays = ~sits_out(len(rows))
            parts.append(grid.values(rows)[stays].half())  # so many steps are exact in float16
            brings += [shape for shape, kept in zip(own, stays.tolist(), strict=True) if kept]
        features.append(torch.cat(parts))
        shapes.append(brings)
    return Examples(blocks, features, shapes)


def _held_out(
    names: Sequence[Sequence[str]], sums: Sums, reads: Sequence[set[RowShape]]
) -> HeldOut | None:
    """Rows to calibrate on, as many as the number of columns allows."""
    each, every = rows_a_column(len(names))
    features, shapes = [], []
    for column in names:
        brings = brought(column, each, every)
        facts = [sums.facts[name] for name in column]
        rows = torch.cat([one.rows[:brings] for one in facts])[:each]
        features.append(rows.float() * STEP)
        shapes.append([shape for one in facts for shape in one.row_shapes[:brings]][:each])
    return held_out(features, shapes, reads)


def needs_rows(config: RouterConfig, without: Sequence[str]) -> InputError:
    """What to say where a gate needs the rows of experts that have statistics only."""
    return InputError(
        f"a {config.kind} gate is trained on features, and of {', '.join(without)} this bank "
        f"keeps statistics only; possible here: {', '.join(fitted_from_moments())}"
    )
