"""The default gate: regularised linear discriminants in closed form, from moments alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from expertbank.routing.examples import Block
from expertbank.routing.gates import GateKind
from expertbank.routing.gates.layers import LayeredGate, joined, read_layers
from expertbank.routing.gates.settings import ClosedForm
from expertbank.routing.moments import BalancedMoments

FLOOR = 0.03
"""Least variance a feature is taken to have, relative to the mean one: some never vary."""


def fit_lda(blocks: Sequence[Block], settings: ClosedForm) -> LayeredGate:
    """Linear discriminants of columns that may compete for a row, each block of them apart.

    Every column is a Gaussian about its own mean, all with one covariance, and all equally
    likely beforehand. Beside least squares on the columns' names (``ridge``) this does not ask
    for equal scores within a column, which costs where columns differ in how near they are.
    """
    return joined(blocks, lambda moments: discriminants(moments, settings.ridge))


def discriminants(moments: BalancedMoments, ridge: float) -> tuple[Tensor, Tensor]:
    """``weight [dimension, columns]`` and ``bias [columns]`` in float64.

    With ``S`` the covariance about the columns' own means, averaged over columns, ``m_j`` a
    column's mean and ``m`` the mean of means, the score of ``x`` is
    ``(x − (m_j + m)/2) · (S + λ·D)⁻¹ (m_j − m)``: the log-odds against the mean of means. ``D``
    is the diagonal of ``S`` and a share of its mean, so that the scale of a feature does not decide
    how strongly it is regularised, unless it hardly varies. (Linear discriminants: Hastie,
    Tibshirani and Friedman, "The Elements of Statistical Learning", sections 4.3 and 4.3.1; over
    several tasks from accumulated moments as in Hayes and Kanan, "Lifelong Machine Learning with
    Deep Streaming Linear Discriminant Analysis", CVPR Workshops 2020.)
    """
    means, centre = moments.means, moments.mean
    root = torch.linalg.cholesky(regularised(moments.within, ridge))
    # [dimension, columns]
    weight = torch.cholesky_solve((means - centre).T.contiguous(), root)
    return weight, -((means + centre) / 2 * weight.T).sum(1)


def regularised(covariance: Tensor, ridge: float) -> Tensor:
    """``S + λ·D`` of ``discriminants``; ``covariance`` itself is changed."""
    own = covariance.diagonal().clamp_min(0)
    covariance.diagonal().add_(ridge * (own + FLOOR * own.mean()).clamp_min(1e-12))
    return covariance


LDA = GateKind(
    ClosedForm,
    fit=lambda examples, settings: fit_lda(examples.blocks, settings),
    read=read_layers,
    fit_moments=fit_lda,
)
