"""Where a head starts: the ridge classifier of the untouched backbone, in closed form.

Training cores and a random head together spends the first hundred steps on the head, and drags
good features along meanwhile (Kumar et al., arXiv 2202.10054). Here the head first fits the frozen
features, which costs one forward pass over some rows, and training starts from there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Regularisation tried, relative to the mean variance of a feature."""

SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Factors tried from one-hot regression outputs to logits."""


def probe_head(features: Tensor, targets: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Ridge regression onto one-hot targets, its settings chosen by leave-one-out likelihood.

    A ridge fit without row ``i`` predicts ``(z_i − h_i y_i) / (1 − h_i)``, with ``h`` the
    diagonal of the hat matrix, so every setting is judged on rows it did not see, in one
    decomposition (Allen's PRESS).

    Args:
        features: ``[rows, hidden]`` what the head will read.
        targets: ``[rows]`` class indices.
        classes: how many classes there are; one without a row gets a low constant logit.

    Returns:
        ``weight [classes, hidden]`` and ``bias [classes]``, float32.
    """
    x, y = features.double(), F.one_hot(targets, classes).double()
    centre, prior = x.mean(0), y.mean(0)
    x = x - centre
    spread, directions = torch.linalg.eigh(x.T @ x)
    spread = spread.clamp_min(0)
    # [rows, hidden] coordinates of the rows along the eigenvectors
    along = x @ directions
    aimed = along.T @ (y - prior)
    unit = spread.sum() / x.shape[1]
    best: tuple[float, float, Tensor] | None = None
    for strength in STRENGTHS:
        damped = spread + strength * unit.clamp_min(1e-12)
        coefficients = aimed / damped.unsqueeze(1)
        hat = (along.pow(2) / damped).sum(1) + 1 / len(x)
        fitted = along @ coefficients + prior
        left_out = (fitted - hat.unsqueeze(1) * y) / (1 - hat).clamp_min(1e-6).unsqueeze(1)
        for scale in SCALES:
            loss = float(F.cross_entropy(left_out * scale, targets))
            if best is None or loss < best[0]:
                best = (loss, scale, coefficients)
    assert best is not None
    _, scale, coefficients = best
    weight = (directions @ coefficients).T * scale
    bias = (prior - 1 / classes) * scale - weight @ centre
    return weight.float(), bias.float()
