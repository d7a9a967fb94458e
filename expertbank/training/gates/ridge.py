"""The closed-form gate: task-balanced ridge regression from moments alone."""

from __future__ import annotations

import torch
from torch import Tensor

from expertbank.config import RouterConfig
from expertbank.models.gates import Layer
from expertbank.training.gates.examples import Examples, joined
from expertbank.training.moments import BalancedMoments


def fit_ridge(examples: Examples, config: RouterConfig) -> tuple[Layer, ...]:
    """Balanced ridge regression onto one-hot column targets, in closed form.

    Columns that can never be candidates for one row are regressed apart: what tells a question
    with choices from a pair of texts would otherwise take up weight that tells two pair tasks
    from each other (measured: one point of routing accuracy over twelve tasks).
    """
    return (joined(examples.blocks, lambda moments: ridge_solution(moments, config.ridge)),)


def ridge_solution(moments: BalancedMoments, ridge: float) -> tuple[Tensor, Tensor]:
    """``weight [dimension, columns]`` and ``bias [columns]`` in float64.

    With every column's moments divided by its row count, ``m_j`` its mean and ``m`` the mean of
    means, solves ``(C + λ·tr(C)/d·I) w_j = (m_j − m)/T`` where ``C`` is the covariance of the
    balanced mixture; ``b_j = 1/T − m·w_j``. (Moments as in RanPAC, McDonnell et al., NeurIPS
    2023, section 3.)
    """
    means = torch.stack(moments.means)
    share, centre, covariance = 1 / len(means), moments.mean, moments.covariance
    strength = ridge * covariance.diagonal().mean().clamp_min(1e-12)
    covariance.diagonal().add_(strength)
    root = torch.linalg.cholesky(covariance)
    # [dimension, columns]
    weight = torch.cholesky_solve((means - centre).T * share, root)
    return weight, share - centre @ weight
