"""Moments of a mixture of columns: all that the closed-form gates and the unknown score need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class BalancedMoments:
    """Moments of a mixture in which every column weighs the same.

    Keeps one mean a column and one matrix in all, so memory does not grow with the columns'
    squares. The scatter may weigh columns a little differently (see ``sums``); what the columns'
    means contribute never does.

    Attributes:
        means: ``[columns, dimension]`` float64 mean of each column's rows.
        scatter: ``[dimension, dimension]`` float64 weighted sum over columns of the outer products
            of rows about their own column's mean.
        weight: sum over columns of the weight of a row times the rows.
    """

    means: Tensor
    scatter: Tensor
    weight: float

    @classmethod
    def of(cls, columns: Sequence[Tensor]) -> BalancedMoments:
        """Of rows ``[rows, dimension]`` by column, at least one each."""
        rows = [column.double() for column in columns]
        centred = [(own - own.mean(0)) / len(own) ** 0.5 for own in rows]
        scatter = sum((own.T @ own for own in centred), torch.zeros(()).double())
        return cls(torch.stack([own.mean(0) for own in rows]), scatter, float(len(rows)))

    @property
    def mean(self) -> Tensor:
        """``[dimension]`` mean of the columns' means."""
        return self.means.mean(0)

    @property
    def within(self) -> Tensor:
        """``[dimension, dimension]`` covariance about each column's own mean, averaged."""
        return self.scatter / self.weight

    @property
    def covariance(self) -> Tensor:
        """``[dimension, dimension]`` covariance of the balanced mixture."""
        apart = self.means - self.mean
        return self.within + apart.T @ apart / len(self.means)
