"""Fitting the unknown score: statistics from moments, a threshold from held-out known rows."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from expertbank.models.projection import sign_projection
from expertbank.models.unknown import NAME, WIDTH, UnknownModel
from expertbank.training.moments import BalancedMoments

KNOWN_SHARE = 0.95
"""Share of held-out known rows that the threshold lets pass, every column weighted equally."""
SHRINKAGE = 0.01
"""Weight of the mean variance on the diagonal of a covariance."""


def fit_unknown(moments: BalancedMoments, dimension: int) -> UnknownModel:
    """Gaussians from moments; the threshold is still to be set.

    One column alone has no other to be told from: then the plain Mahalanobis distance is the
    score, for the relative one would be zero everywhere.

    Args:
        moments: of all columns, of features as wide as ``dimension``.
        dimension: width of the features.
    """
    if dimension > WIDTH:
        moments = moments.projected(sign_projection(dimension, WIDTH, NAME))
    within, overall = _whitener(moments.within), _whitener(moments.covariance)
    return UnknownModel(
        dimension,
        0.0,
        len(moments.means) > 1,
        within.float(),
        (torch.stack(moments.means) @ within).float(),
        overall.float(),
        (moments.mean @ overall).float(),
    )


def with_threshold(
    model: UnknownModel, features: Tensor, allowed: Tensor, targets: Tensor
) -> UnknownModel:
    """The model with its threshold at the quantile of held-out known rows.

    Args:
        model: fitted without these rows.
        features: ``[rows, dimension]``.
        allowed: ``[rows, columns]`` bool, the columns that may answer a row.
        targets: ``[rows]`` the column a row belongs to.
    """
    scores, order = model.score(features, allowed).sort()
    weights = (1 / torch.bincount(targets).double())[targets][order]
    passed = weights.cumsum(0) / weights.sum()
    place = int((passed < KNOWN_SHARE).sum())
    return replace(model, threshold=float(scores[min(place, len(scores) - 1)]))


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
