"""Where a head starts: the ridge classifier of the untouched backbone, in closed form.

Training cores and a random head together spends the first hundred steps on the head, and drags
good features along meanwhile (Kumar et al., arXiv 2202.10054). Here the head first fits the frozen
features, which costs one forward pass over some rows, and training starts from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Regularisation tried, relative to the mean variance of a feature."""

SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Factors tried from one-hot regression outputs to logits."""


def probe_head(features: Tensor, targets: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Ridge regression onto one-hot targets, its settings chosen by leave-one-out likelihood.

    Args:
        features: ``[rows, hidden]`` what the head will read.
        targets: ``[rows]`` class indices.
        classes: how many classes there are; one without a row gets a low constant logit.

    Returns:
        ``weight [classes, hidden]`` and ``bias [classes]``, float32.
    """
    y = F.one_hot(targets, classes).double()
    best: tuple[float, float, _Fit] | None = None
    for fit in _ridge_path(features.double(), y):
        for scale in SCALES:
            loss = float(F.cross_entropy(fit.left_out * scale, targets))
            if best is None or loss < best[0]:
                best = (loss, scale, fit)
    assert best is not None
    _, scale, fit = best
    weight, bias = fit.weight * scale, (fit.bias - 1 / classes) * scale
    return weight.float(), bias.float()


def probe_flags(features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression onto each label's 0 and 1, settings chosen by leave-one-out likelihood.

    Args:
        features: ``[rows, hidden]`` what the head will read.
        targets: ``[rows, labels]`` 1 where a label holds, else 0.

    Returns:
        ``weight [labels, hidden]`` and ``bias [labels]``, float32.
    """
    y = targets.double()
    best: tuple[float, float, _Fit] | None = None
    for fit in _ridge_path(features.double(), y):
        for scale in SCALES:
            logits = (fit.left_out - 0.5) * scale
            loss = float(F.binary_cross_entropy_with_logits(logits, y))
            if best is None or loss < best[0]:
                best = (loss, scale, fit)
    assert best is not None
    _, scale, fit = best
    return (fit.weight * scale).float(), ((fit.bias - 0.5) * scale).float()


def probe_value(features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression onto one value, its strength chosen by leave-one-out squared error.

    Args:
        features: ``[rows, hidden]`` what the head will read.
        targets: ``[rows]`` values.

    Returns:
        ``weight [1, hidden]`` and ``bias [1]``, float32.
    """
    y = targets.double().unsqueeze(1)
    fits = _ridge_path(features.double(), y)
    best = min(fits, key=lambda fit: float(F.mse_loss(fit.left_out, y)))
    return best.weight.float(), best.bias.float()


@dataclass(frozen=True, slots=True)
class _Fit:
    """One strength's fit: its head, and what it predicts of each row when fitted without it."""

    weight: Tensor
    bias: Tensor
    left_out: Tensor


def _ridge_path(x: Tensor, y: Tensor) -> Iterator[_Fit]:
    """Ridge fits of ``y [rows, outputs]`` on ``x [rows, hidden]``, one per strength.

    A fit without row ``i`` predicts ``(z_i − h_i y_i) / (1 − h_i)``, with ``h`` the diagonal of
    the hat matrix, so every strength is judged on rows it did not see, in one decomposition
    (Allen's PRESS).
    """
    centre, level = x.mean(0), y.mean(0)
    x = x - centre
    spread, directions = torch.linalg.eigh(x.T @ x)
    spread = spread.clamp_min(0)
    # [rows, hidden] coordinates of the rows along the eigenvectors
    along = x @ directions
    aimed = along.T @ (y - level)
    unit = (spread.sum() / x.shape[1]).clamp_min(1e-12)
    for strength in STRENGTHS:
        damped = spread + strength * unit
        coefficients = aimed / damped.unsqueeze(1)
        hat = ((along.pow(2) / damped).sum(1) + 1 / len(x)).unsqueeze(1)
        fitted = along @ coefficients + level
        weight = (directions @ coefficients).T
        left_out = (fitted - hat * y) / (1 - hat).clamp_min(1e-6)
        yield _Fit(weight, level - weight @ centre, left_out)
