"""The closed-form gate: task-balanced ridge regression from moments alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from expertbank.routing.examples import Block
from expertbank.routing.gates import GateKind
from expertbank.routing.gates.layers import LayeredGate, joined, read_layers
from expertbank.routing.gates.settings import ClosedForm
from expertbank.routing.moments import BalancedMoments


def fit_ridge(blocks: Sequence[Block], settings: ClosedForm) -> LayeredGate:
    """Balanced ridge regression onto one-hot column targets, in closed form.

    Columns that can never be candidates for one row are regressed apart: what tells a question
    with choices from a pair of texts would otherwise take up weight that tells two pair tasks
    from each other (measured: one point of routing accuracy over twelve tasks).
    """
    return joined(blocks, lambda moments: ridge_solution(moments, settings.ridge))


def ridge_solution(moments: BalancedMoments, ridge: float) -> tuple[Tensor, Tensor]:
    """``weight [dimension, columns]`` and ``bias [columns]`` in float64.

    With every column's moments divided by its row count, ``m_j`` its mean and ``m`` the mean of
    means, solves ``(C + λ·tr(C)/d·I) w_j = (m_j − m)/T`` where ``C`` is the covariance of the
    balanced mixture; ``b_j = 1/T − m·w_j``. (Moments as in RanPAC, McDonnell et al., NeurIPS
    2023, section 3.)
    """
    means = moments.means
    share, centre, covariance = 1 / len(means), moments.mean, moments.covariance
    strength = ridge * covariance.diagonal().mean().clamp_min(1e-12)
    covariance.diagonal().add_(strength)
    root = torch.linalg.cholesky(covariance)
    # [dimension, columns]
    weight = torch.cholesky_solve((means - centre).T * share, root)
    return weight, share - centre @ weight


RIDGE = GateKind(
    ClosedForm,
    fit=lambda examples, settings: fit_ridge(examples.blocks, settings),
    read=read_layers,
    fit_moments=fit_ridge,
)
