"""Fitting the unknown score: statistics from moments, a threshold from held-out known rows."""

from __future__ import annotations

import torch
from torch import Tensor

from expertbank.models.unknown import UnknownModel, projection_of
from expertbank.training.moments import BalancedMoments

KNOWN_SHARE = 0.95
"""Share of held-out known rows that the threshold lets pass, every column weighted equally."""
SHRINKAGE = 0.01
"""Weight of the mean variance on the diagonal of a covariance."""


def fit_unknown(
    moments: BalancedMoments, dimension: int, projection: str | None = None
) -> UnknownModel:
    """Gaussians from moments; the threshold is still to be set.

    One column alone has no other to be told from: then the plain Mahalanobis distance is the
    score, for the relative one would be zero everywhere.

    Args:
        moments: of all columns.
        dimension: width of the features.
        projection: the projection that the moments went through already, if they did.
    """
    if projection is None:
        projection = "unknown"
        moments = moments.projected(projection_of(dimension, projection))
    within, overall = _whitener(moments.within), _whitener(moments.covariance)
    return UnknownModel(
        dimension,
        projection,
        0.0,
        len(moments.means) > 1,
        within.float(),
        (torch.stack(moments.means) @ within).float(),
        overall.float(),
        (moments.mean @ overall).float(),
    )


def threshold_of(scores: Tensor, targets: Tensor) -> float:
    """The score that ``KNOWN_SHARE`` of held-out known rows stay at or below.

    Args:
        scores: ``[rows]`` of a model fitted without these rows.
        targets: ``[rows]`` the column a row belongs to.
    """
    ordered, order = scores.sort()
    weights = (1 / torch.bincount(targets).double())[targets][order]
    passed = weights.cumsum(0) / weights.sum()
    place = int((passed < KNOWN_SHARE).sum())
    return float(ordered[min(place, len(ordered) - 1)])


def _whitener(covariance: Tensor) -> Tensor:
    """``L`` with ``(x L)`` of unit covariance, for rows ``x`` with this one, shrunk a little."""
    size = len(covariance)
    level = covariance.diagonal().mean().clamp_min(1e-12)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * level * torch.eye(size, dtype=torch.float64)
    root = torch.linalg.cholesky(shrunk)
    inverse: Tensor = torch.linalg.solve_triangular(
        root, torch.eye(size, dtype=torch.float64), upper=False
    )
    return inverse.T.contiguous()
