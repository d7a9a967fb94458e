"""Fitting the router on what the bank keeps: no text, no backbone, no expert weight is read.

Top-1 followed by a softmax gives the router no gradient from the task loss, so fitting it is
plain task classification on frozen features; caching them once is equivalent to the paper's
joint passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from expertbank.config import RouterConfig
from expertbank.models.gates import Layer, Member, Router, candidates, gate_scores
from expertbank.records import ROW_SHAPES, RowShape
from expertbank.training.gates import FITS, FROM_MOMENTS, Block, Examples, competing
from expertbank.training.moments import BalancedMoments, Moments
from expertbank.training.unknown import fit_unknown, threshold_of

CALIBRATION_PART = 5
"""Every fifth cached row sits out a first fit, to set temperature and threshold."""
CALIBRATION_SCORES = 20_000_000
"""Most scores computed to calibrate: with many columns each brings fewer rows, so that the
cost stays linear in the columns."""

LARGEST = 3.0
"""Temperatures lie between ten to minus this and ten to this."""


@dataclass(frozen=True, slots=True)
class TaskFeatures:
    """Cached features of one expert's training rows, ``[rows, dimension]`` float16.

    Experts of one ``group`` answer together: the gate learns them as one.
    """

    id: str
    digest: str
    task: str
    kind: str
    group: str | None
    train: Tensor
    shapes: tuple[RowShape, ...]

    @property
    def column(self) -> tuple[str | None, str]:
        """What the gate chooses: the group, or the task alone."""
        return (self.group, "") if self.group else (None, self.task)

    @property
    def reads(self) -> tuple[RowShape, ...]:
        """The shapes of row the expert was trained on."""
        return tuple(shape for shape in ROW_SHAPES if shape in set(self.shapes))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows that sat out a fit.

    Attributes:
        features: ``[rows, dimension]``.
        targets: ``[rows]`` the column each belongs to.
        allowed: ``[rows, columns]`` bool, the columns that may answer a row.
    """

    features: Tensor
    targets: Tensor
    allowed: Tensor


def fit_router(
    tasks: Sequence[TaskFeatures], config: RouterConfig, feature_spec_digest: str
) -> Router:
    """Fit a gate over all tasks, calibrate its confidence and set the unknown threshold.

    Tasks are taken in digest order whatever order they come in, so the same members give the
    same bytes.

    Args:
        tasks: cached training features of every member, at least one.
        config: which gate, and its settings.
        feature_spec_digest: the spec the features were made under.
    """
    members, parts = _columns(tasks)
    whole, fitted, held = _examples(parts)
    return calibrated(members, whole, fitted, held, config, feature_spec_digest)


def fit_without_mask(
    tasks: Sequence[TaskFeatures], config: RouterConfig, feature_spec_digest: str
) -> Router:
    """Fit a gate of the same kind with every column a candidate for every row.

    Only to say what the candidate mask is worth: the scores of ``fit_router`` cannot, since
    columns that never compete for a row are fitted apart there and their scores never compared.
    Members and columns are those of ``fit_router``; nothing is calibrated. Such a router is
    neither stored nor routed with.

    Args:
        tasks: as in ``fit_router``.
        config: which gate, and its settings.
        feature_spec_digest: the spec the features were made under.
    """
    members, parts = _columns(tasks)
    whole, _, _ = _examples(parts)
    layers = FITS[config.kind](_unmasked(whole), config)
    return Router(config.kind, members, feature_spec_digest, 1.0, layers)


def fit_with_and_without_mask(
    tasks: Sequence[TaskFeatures], config: RouterConfig, feature_spec_digest: str
) -> tuple[Router, Router]:
    """``fit_router`` and ``fit_without_mask``, bit by bit, from moments computed once.

    This is one more fit than ``fit_router``, and none where the mask leaves the fit as it is.
    Beside that it holds one more Gram matrix, however many columns there are.

    Args:
        tasks: as in ``fit_router``.
        config: which gate, and its settings.
        feature_spec_digest: the spec the features were made under.
    """
    members, parts = _columns(tasks)
    whole, fitted, held = _examples(parts)
    router = calibrated(members, whole, fitted, held, config, feature_spec_digest)
    layers = router.layers
    if _mask_changes_the_fit(whole, config):
        layers = FITS[config.kind](_unmasked(whole), config)
    return router, replace(router, temperature=1.0, layers=layers, unknown=None)


def _columns(
    tasks: Sequence[TaskFeatures],
) -> tuple[tuple[Member, ...], list[list[TaskFeatures]]]:
    """Members in the order of their digests, and the tasks of each column."""
    ordered = sorted(tasks, key=lambda task: task.digest)
    names = list(dict.fromkeys(task.column for task in ordered))
    members = tuple(
        Member(task.id, task.digest, task.task, task.kind, names.index(task.column), task.reads)
        for task in ordered
    )
    return members, [[task for task in ordered if task.column == name] for name in names]


def _unmasked(examples: Examples) -> Examples:
    """The same rows as if all had one shape: one block, whose moments are the blocks' added."""
    block = Block(list(range(len(examples.features))), examples.moments)
    one: tuple[RowShape, ...] = ("single",)
    shapes = [one * len(rows) for rows in examples.features]
    return Examples([block], examples.features, shapes)


def _mask_changes_the_fit(examples: Examples, config: RouterConfig) -> bool:
    """Gates from moments see blocks only; the others see the candidates of every row."""
    if config.kind in FROM_MOMENTS:
        return len(examples.blocks) > 1
    reads = [set(shapes) for shapes in examples.shapes]
    return not bool(candidates(sorted(set[RowShape]().union(*reads)), reads).all())


def calibrated(
    members: tuple[Member, ...],
    whole: Examples,
    fitted: Examples,
    held: HeldOut | None,
    config: RouterConfig,
    feature_spec_digest: str,
) -> Router:
    """Fit on all examples; set temperature and threshold by a fit without the held-out rows."""
    fit = FITS[config.kind]
    layers = fit(whole, config)
    temperature, unknown = 1.0, None
    if held is not None:
        if len(layers[-1].bias) > 1:
            temperature = best_temperature(fit(fitted, config), held)
        dimension = held.features.shape[1]
        first = fit_unknown(fitted.moments, dimension)
        threshold = threshold_of(first.score(held.features, held.allowed), held.targets)
        unknown = replace(fit_unknown(whole.moments, dimension), threshold=threshold)
    return Router(config.kind, members, feature_spec_digest, temperature, layers, unknown)


def _examples(
    parts: Sequence[Sequence[TaskFeatures]],
) -> tuple[Examples, Examples, HeldOut | None]:
    """All rows; all but those held out; and those held out, if columns can spare any.

    Every row's moments are computed once: those of all rows are those of the two parts added.
    Only sums stay, so memory for them does not grow with the columns.
    """
    features = [torch.cat([task.train for task in part]) for part in parts]
    shapes = [tuple(shape for task in part for shape in task.shapes) for part in parts]
    reads = [set(column) for column in shapes]
    out = [_spared(len(rows)) for rows in features]
    whole, fitted = [], []
    for columns in competing(reads):
        both = Block(columns, BalancedMoments()), Block(columns, BalancedMoments())
        for column in columns:
            rows, held = features[column], out[column]
            inside = Moments.of(rows[~held])
            both[0].moments.add(inside + Moments.of(rows[held]))
            both[1].moments.add(inside)
        whole.append(both[0])
        fitted.append(both[1])
    kept = [rows[~held] for rows, held in zip(features, out, strict=True)]
    kept_shapes = [_where(column, ~held) for column, held in zip(shapes, out, strict=True)]
    most = max(1, CALIBRATION_SCORES // len(parts) ** 2)
    spare = [rows[held][:most] for rows, held in zip(features, out, strict=True)]
    spare_shapes = [_where(column, held)[:most] for column, held in zip(shapes, out, strict=True)]
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


def held_out(
    features: Sequence[Tensor],
    shapes: Sequence[Sequence[RowShape]],
    reads: Sequence[set[RowShape]],
) -> HeldOut | None:
    """Rows by column joined, with the columns that may answer each; ``None`` if there are none."""
    flat = [shape for column in shapes for shape in column]
    if not flat:
        return None
    targets = torch.cat([torch.full((len(rows),), i) for i, rows in enumerate(features)])
    return HeldOut(torch.cat(list(features)), targets, candidates(flat, reads))


def best_temperature(layers: Sequence[Layer], held: HeldOut) -> float:
    """Temperature that minimises the negative log-likelihood of rows left out of a fit.

    Rows compete among the candidates that routing would allow them. (Guo et al., "On
    Calibration of Modern Neural Networks", ICML 2017, section 4.2.) One row's worth of the
    targets is spread over the wrong candidates, as Platt ("Probabilistic Outputs for Support
    Vector Machines", 1999, section 2.2) does, or a gate that errs on no held-out row would
    claim to be certain. The likelihood is convex in the inverse temperature: its slope is
    bisected.
    """
    allowed, right = held.allowed, held.targets.unsqueeze(1)
    scores = gate_scores(layers, held.features)
    blurred = 1 / (len(scores) + 2)
    # [rows]
    own = scores.gather(1, right).squeeze(1)
    others = scores.masked_fill(~allowed, 0.0).scatter(1, right, 0.0).sum(1)
    others = others / (allowed.sum(1) - 1).clamp_min(1)
    alone = allowed.sum(1) == 1
    wanted = torch.where(alone, own, (1 - blurred) * own + blurred * others)
    low, high = -LARGEST, LARGEST
    for _ in range(24):
        middle = (low + high) / 2
        odds = (scores * 10.0**middle).masked_fill(~allowed, float("-inf"))
        slope = (torch.softmax(odds, dim=1) * scores).sum(1) - wanted
        low, high = (middle, high) if float(slope.mean()) < 0 else (low, middle)
    return float(10.0**-high)
