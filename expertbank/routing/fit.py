"""Fitting the router on cached features: no text, no backbone, no expert weight is read.

Top-1 followed by a softmax gives the router no gradient from the task loss, so fitting it is
plain task classification on frozen features; caching them once is equivalent to the paper's
joint passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from expertbank.backbones.forks import computing
from expertbank.records import ROW_SHAPES, RowShape
from expertbank.routing.calibration import HeldOut, best_temperature, held_out, rows_a_column
from expertbank.routing.columns import Entry, by_column, competing, members
from expertbank.routing.config import RouterConfig
from expertbank.routing.examples import Block, Examples, together
from expertbank.routing.moments import BalancedMoments, Moments
from expertbank.routing.router import Router
from expertbank.routing.unknown import fit_unknown, threshold_of

CALIBRATION_PART = 5
"""Every fifth cached row sits out a first fit, to set temperature and threshold."""


@dataclass(frozen=True, slots=True)
class TaskFeatures(Entry):
    """Cached features of one expert's training rows, ``[rows, dimension]`` float16."""

    train: Tensor
    shapes: tuple[RowShape, ...]

    @property
    def reads(self) -> tuple[RowShape, ...]:
        """The shapes of row the expert was trained on."""
        return tuple(shape for shape in ROW_SHAPES if shape in set(self.shapes))


@computing()
def fit_router(
    tasks: Sequence[TaskFeatures], config: RouterConfig, feature_spec_digest: str
) -> Router:
    """Fit a gate on all rows; set temperature and threshold by a fit without the held-out ones.

    The same members give the same bytes, in whatever order they come.

    Args:
        tasks: cached training features of every member, at least one.
        config: which gate, and its settings.
        feature_spec_digest: the spec the features were made under.
    """
    columns = by_column(tasks)
    whole, fitted, held = split(columns)
    fit = config.gate.fit
    gate = fit(whole, config.settings)
    temperature, unknown = 1.0, None
    if held is not None:
        if len(columns) > 1:
            temperature = best_temperature(fit(fitted, config.settings), held)
        dimension = held.features.shape[1]
        first = fit_unknown(together(fitted.blocks), dimension)
        threshold = threshold_of(first.score(held.features, held.allowed), held.targets)
        unknown = replace(fit_unknown(together(whole.blocks), dimension), threshold=threshold)
    own = members(columns, {task.id: task.reads for task in tasks})
    return Router(config.kind, own, feature_spec_digest, temperature, gate, unknown)


def split(
    columns: Sequence[Sequence[TaskFeatures]],
) -> tuple[Examples, Examples, HeldOut | None]:
    """All rows; all but those held out; and those held out, if columns can spare any.

    Every row's moments are computed once: those of all rows are those of the two parts added.
    Only sums stay, so memory for them does not grow with the columns.
    """
    features = [torch.cat([task.train for task in part]) for part in columns]
    shapes = [tuple(shape for task in part for shape in task.shapes) for part in columns]
    reads = [set(column) for column in shapes]
    out = [_spared(len(rows)) for rows in features]
    whole, fitted = [], []
    for own in competing(reads):
        both = Block(own, BalancedMoments()), Block(own, BalancedMoments())
        for column in own:
            rows, held = features[column], out[column]
            inside = Moments.of(rows[~held])
            both[0].moments.add(inside + Moments.of(rows[held]))
            both[1].moments.add(inside)
        whole.append(both[0])
        fitted.append(both[1])
    kept = [rows[~held] for rows, held in zip(features, out, strict=True)]
    kept_shapes = [_where(column, ~held) for column, held in zip(shapes, out, strict=True)]
    each, every = rows_a_column(len(columns), least=1)
    most = [each if place % every == 0 else 0 for place in range(len(columns))]
    spare = [rows[held][:n] for rows, held, n in zip(features, out, most, strict=True)]
    spare_shapes = [_where(own, held)[:n] for own, held, n in zip(shapes, out, most, strict=True)]
    return (
        Examples(whole, features, shapes),
        Examples(fitted, kept, kept_shapes),
        held_out(spare, spare_shapes, reads),
    )


def _spared(rows: int) -> Tensor:
    """``[rows]`` bool, the rows to hold out: none where there are too few."""
    part = torch.arange(rows) % CALIBRATION_PART == 0
    return part & torch.tensor(rows >= 2 * CALIBRATION_PART)


def _where(shapes: Sequence[RowShape], mask: Tensor) -> tuple[RowShape, ...]:
    return tuple(shape for shape, taken in zip(shapes, mask.tolist(), strict=True) if taken)
