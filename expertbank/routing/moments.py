"""Moments of features: all that the closed-form gate and the unknown score need of a task.

Moments add: of parts of a task, of tasks, of banks. Floating-point sums depend on their order,
so whoever adds tasks up does it in the order of their digests; then the same tasks give the
same bits whatever order they came in.

A task's moments of dimension ``d`` take ``4 d (d + 1) + 8 d`` bytes in float64 with half of the
symmetric Gram matrix stored: 1.1 MB for the 512 dimensions that ``--keep stats`` keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Moments:
    """Sufficient statistics of some rows.

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
        # NumPy sees a matrix times itself and computes one triangle: a third less time.
        plain = wide.numpy()
        return cls(len(wide), wide.sum(0), torch.from_numpy(plain.T @ plain))

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets of rows together."""
        return Moments(self.count + other.count, self.total + other.total, self.gram + other.gram)

    def projected(self, projection: Tensor) -> Moments:
        """Moments of the rows times ``projection [dimension, width]``, up to rounding."""
        gram = projection.T @ self.gram @ projection
        return Moments(self.count, self.total @ projection, (gram + gram.T) / 2)

    def sample(self, rows: int, generator: torch.Generator) -> Tensor:
        """``[rows, dimension]`` float64 drawn from the Gaussian with these moments.

        For what needs rows where no row was kept.
        """
        mean = self.total / self.count
        covariance = self.gram / self.count - torch.outer(mean, mean)
        # Square root by eigenvalues: few rows leave the covariance singular.
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp_min(0).sqrt()
        noise = torch.randn(rows, len(mean), generator=generator, dtype=torch.float64)
        drawn: Tensor = mean + noise @ root.T
        return drawn


@dataclass(slots=True)
class BalancedMoments:
    """Moments of a mixture in which every column weighs the same; one column added at a time.

    Keeps one mean a column and one matrix in all, so memory for the Gram does not grow with
    the number of columns.

    Attributes:
        means: per column ``[dimension]``.
        counts: per column its rows.
        gram: sum over columns of the Gram matrix divided by the column's rows.
    """

    means: list[Tensor] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    gram: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))

    def add(self, moments: Moments) -> None:
        """Take in the next column."""
        if not self.means:
            self.gram = torch.zeros_like(moments.gram)
        self.means.append(moments.total / moments.count)
        self.counts.append(moments.count)
        self.gram.add_(moments.gram, alpha=1 / moments.count)

    @property
    def mean(self) -> Tensor:
        """``[dimension]`` mean of the columns' means."""
        return torch.stack(self.means).mean(0)

    @property
    def covariance(self) -> Tensor:
        """``[dimension, dimension]`` covariance of the balanced mixture."""
        centre = self.mean
        return self.gram / len(self.means) - torch.outer(centre, centre)

    @property
    def within(self) -> Tensor:
        """``[dimension, dimension]`` covariance about each column's own mean, averaged."""
        means = torch.stack(self.means)
        return (self.gram - means.T @ means) / len(self.means)

    def projected(self, projection: Tensor) -> BalancedMoments:
        """The same of rows times ``projection [dimension, width]``, up to rounding."""
        gram = projection.T @ self.gram @ projection
        means = [mean @ projection for mean in self.means]
        return BalancedMoments(means, list(self.counts), (gram + gram.T) / 2)
