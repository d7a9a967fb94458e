"""Fitting the router on cached features: no text, no backbone, no expert weight is read.

Top-1 followed by a softmax gives the router no gradient from the task loss, so fitting it is
plain task classification on frozen features; caching them once is equivalent to the paper's
joint passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.config import RouterConfig
from expertbank.models.gates import Member, Router, candidates
from expertbank.records import ROW_SHAPES, RowShape, TaskKind

CALIBRATION_PART = 5
"""Every fifth cached row sits out a first fit, to set the temperature."""


@dataclass(frozen=True, slots=True)
class TaskFeatures:
    """Cached features of one expert's training rows, ``[rows, dimension]`` float16.

    Experts of one ``group`` answer together: the gate learns them as one.
    """

    id: str
    digest: str
    task: str
    kind: TaskKind
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
class Moments:
    """Sufficient statistics of one task for the ridge gate; they add.

    Attributes:
        count: rows seen.
        total: ``[dimension]`` float64 sum of features.
        gram: ``[dimension, dimension]`` float64 sum of outer products.
    """

    count: int
    total: Tensor
    gram: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Moments of ``features [rows, dimension]``."""
        wide = features.double()
        return cls(len(wide), wide.sum(0), wide.T @ wide)

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets of rows together."""
        return Moments(self.count + other.count, self.total + other.total, self.gram + other.gram)


Fit = Callable[[Sequence[Tensor], RouterConfig], tuple[Tensor, Tensor]]
"""Features by column to ``weight [dimension, columns]`` and ``bias [columns]``."""


def fit_router(
    tasks: Sequence[TaskFeatures], config: RouterConfig, feature_spec_digest: str
) -> Router:
    """Fit a gate over all tasks and calibrate its confidence.

    Tasks are taken in digest order whatever order they come in, so the same members give the
    same bytes.

    Args:
        tasks: cached training features of every member, at least one.
        config: which gate, and its settings.
        feature_spec_digest: the spec the features were made under.
    """
    ordered = sorted(tasks, key=lambda task: task.digest)
    names = list(dict.fromkeys(task.column for task in ordered))
    parts = [[task for task in ordered if task.column == name] for name in names]
    columns = [torch.cat([task.train for task in part]) for part in parts]
    shapes = [tuple(shape for task in part for shape in task.shapes) for part in parts]
    fit = FITS[config.kind]
    temperature = _calibrate(columns, shapes, config, fit)
    weight, bias = fit(columns, config)
    members = tuple(
        Member(task.id, task.digest, task.task, task.kind, names.index(task.column), task.reads)
        for task in ordered
    )
    return Router(
        config.kind, members, feature_spec_digest, temperature, weight.float(), bias.float()
    )


def fit_ridge(columns: Sequence[Tensor], config: RouterConfig) -> tuple[Tensor, Tensor]:
    """Balanced ridge regression onto one-hot column targets, in closed form.

    With every column's moments divided by its row count, ``m_j`` its mean and ``m`` the mean of
    means, solves ``(C + λ·tr(C)/d·I) w_j = (m_j − m)/T`` where ``C`` is the covariance of the
    balanced mixture; ``b_j = 1/T − m·w_j``. Sums run in the order given.
    """
    moments = [Moments.of(features) for features in columns]
    share = 1 / len(moments)
    means = torch.stack([moment.total / moment.count for moment in moments])
    centre = means.mean(0)
    gram = torch.zeros_like(moments[0].gram)
    for moment in moments:
        gram += moment.gram * (share / moment.count)
    covariance = gram - torch.outer(centre, centre)
    strength = config.ridge * covariance.diagonal().mean().clamp_min(1e-12)
    covariance.diagonal().add_(strength)
    # [dimension, columns]
    weight = torch.linalg.solve(covariance, (means - centre).T * share)
    return weight, share - centre @ weight


def fit_noisy_top1(columns: Sequence[Tensor], config: RouterConfig) -> tuple[Tensor, Tensor]:
    """The paper's gate: ``h W_gate + N(0,1) · softplus(h W_noise)``, noise in training only.

    (arXiv 2504.21190, section 3.2; after Shazeer et al., arXiv 1701.06538, eq. 4.) Trained by
    cross-entropy with every column weighted equally. The noise weights have done their work
    when training ends and are not kept.
    """
    generator = torch.Generator().manual_seed(config.seed)
    features = torch.cat(list(columns)).float()
    targets = torch.cat([torch.full((len(rows),), i) for i, rows in enumerate(columns)])
    balance = 1 / torch.bincount(targets).float()
    dimension = features.shape[1]
    gate = torch.zeros(dimension, len(columns), requires_grad=True)
    bias = torch.zeros(len(columns), requires_grad=True)
    noise = torch.zeros(dimension, len(columns), requires_grad=True)
    # Features have root mean square 1: dividing by √d keeps the scores' scale free of width.
    scale = dimension**-0.5
    optimiser = torch.optim.Adam([gate, bias, noise], lr=config.lr * dimension**0.5 / 4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.epochs)
    for _ in range(config.epochs):
        for rows in torch.split(torch.randperm(len(features), generator=generator), 512):
            h = features[rows] * scale
            spread = F.softplus(h @ noise)
            draw = torch.randn(spread.shape, generator=generator)
            scores = h @ gate + bias + draw * spread
            loss = F.cross_entropy(scores, targets[rows], weight=balance)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimiser.step()
        schedule.step()
    return gate.detach() * scale, bias.detach()


FITS: dict[str, Fit] = {"ridge": fit_ridge, "noisy-top1": fit_noisy_top1}
"""Gate kinds by name: a further one is one function and one entry here and in ``config``."""


def _calibrate(
    columns: Sequence[Tensor],
    shapes: Sequence[Sequence[RowShape]],
    config: RouterConfig,
    fit: Fit,
) -> float:
    """Temperature that minimises the negative log-likelihood of rows left out of a fit.

    Rows compete among the candidates that routing would allow them.
    """
    if len(columns) == 1 or min(map(len, columns)) < 2 * CALIBRATION_PART:
        return 1.0
    out = [torch.arange(len(features)) % CALIBRATION_PART == 0 for features in columns]
    weight, bias = fit([f[~part] for f, part in zip(columns, out, strict=True)], config)
    held = torch.cat([f[part] for f, part in zip(columns, out, strict=True)])
    targets = torch.cat([torch.full((int(part.sum()),), i) for i, part in enumerate(out)])
    held_shapes = [shape for column in shapes for shape in column[::CALIBRATION_PART]]
    allowed = candidates(held_shapes, [set(column) for column in shapes])
    scores = held.double() @ weight.double() + bias.double()
    scores = scores.masked_fill(~allowed, float("-inf"))
    grid = torch.logspace(-3, 1, 81, dtype=torch.float64)
    losses = torch.stack([F.cross_entropy(scores / t, targets) for t in grid])
    return float(grid[losses.argmin()])
