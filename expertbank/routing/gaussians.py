"""How far rows lie from Gaussians of known rows, and how that is computed for a row.

The distance of a row ``x`` to the nearest column, less that to everything, is a minimum over
columns of ``|x U - m|² - |x V - c|²``, where ``U`` and ``V`` whiten, and ``m`` and ``c`` are
whitened means. Multiplied out, what does not depend on the column is one quadratic form
``x (U Uᵀ - V Vᵀ) xᵀ`` and the rest is linear in ``x``: a row alone reads half as many numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SHRINKAGE = 0.05
"""Weight of the mean variance on the diagonal of a covariance."""


@dataclass(frozen=True, slots=True)
class Distance:
    """Squared Mahalanobis distance to the nearest of some columns, in float64.

    Where it is relative, the distance to everything is subtracted.

    Attributes:
        form: ``[width, width]`` of the quadratic form.
        slopes: ``[width, columns]`` of the linear parts.
        offsets: ``[columns]``.
    """

    form: Tensor
    slopes: Tensor
    offsets: Tensor

    @classmethod
    def between(
        cls, within: Tensor, means: Tensor, overall: Tensor, centre: Tensor, *, relative: bool
    ) -> Distance:
        """Of Gaussians as they are stored.

        Args:
            within: ``[width, width]`` whitener about the columns' means.
            means: ``[columns, width]`` whitened by it.
            overall: ``[width, width]`` whitener about the mean of everything.
            centre: ``[width]`` that mean, whitened by it.
            relative: whether the distance to everything is subtracted.
        """
        form, slopes = within @ within.T, -2 * within @ means.T
        offsets = means.square().sum(1)
        if relative:
            form = form - overall @ overall.T
            slopes = slopes + 2 * (overall @ centre).unsqueeze(1)
            offsets = offsets - centre.square().sum()
        return cls(form, slopes, offsets)

    def of(self, values: Tensor, allowed: Tensor) -> Tensor:
        """``[rows]``, infinite where a row has no column.

        Args:
            values: ``[rows, width]`` float64.
            allowed: ``[rows, columns]`` bool, the columns that count for a row.
        """
        columns = values @ self.slopes
        columns += self.offsets
        nearest = columns.masked_fill_(~allowed, float("inf")).amin(1)
        found: Tensor = (values @ self.form).mul_(values).sum(1) + nearest
        return found


def whitener(covariance: Tensor) -> Tensor:
    """Upper triangular ``U`` with ``(x U)`` of unit covariance, for one shrunk a little."""
    size = len(covariance)
    level = covariance.diagonal().mean().clamp_min(1e-12)
    shrunk = (1 - SHRINKAGE) * covariance
    shrunk.diagonal().add_(SHRINKAGE * level)
    root = torch.linalg.cholesky(shrunk)
    inverse: Tensor = torch.linalg.solve_triangular(
        root, torch.eye(size, dtype=torch.float64), upper=False
    )
    return inverse.T


def packed(triangle: Tensor) -> Tensor:
    """Upper triangle of ``[size, size]``, row by row, in half precision."""
    rows, columns = torch.triu_indices(len(triangle), len(triangle))
    return triangle[rows, columns].clamp(-65504, 65504).half()


def unpacked(triangle: Tensor, size: int) -> Tensor:
    """``[size, size]`` float64 of ``packed``."""
    found = torch.zeros(size, size, dtype=torch.float64)
    rows, columns = torch.triu_indices(size, size)
    found[rows, columns] = triangle.double()
    return found
