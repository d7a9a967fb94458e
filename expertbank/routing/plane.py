"""Where tasks lie beside each other: the plane of the two discriminant directions that tell most.

Worked out from exact statistics alone, so no row is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expertbank.routing.gates.lda import regularised
from expertbank.routing.grid import Grid
from expertbank.routing.statistics import Statistics, square
from expertbank.routing.threads import one_thread


@dataclass(frozen=True, slots=True)
class Plane:
    """Tasks in two directions, in deviations of the covariance that all tasks share.

    Attributes:
        places: ``[tasks, 2]`` means, about the mean of means.
        spreads: ``[tasks, 2, 2]`` covariance of each task's rows.
        told: share of the variance between tasks that these directions hold, over all directions.
        distances: ``[tasks, tasks]`` between means in all directions (Mahalanobis).
        grid: of the tasks' statistics.
        centre: ``[width]`` the mean of means, in steps of the grid.
        directions: ``[width, 2]`` what a row's steps about the centre are multiplied by.
    """

    places: Tensor
    spreads: Tensor
    told: float
    distances: Tensor
    grid: Grid
    centre: Tensor
    directions: Tensor

    def seen(self, steps: Tensor) -> Tensor:
        """``[rows, 2]`` where rows ``[rows, width]`` on the tasks' grid lie."""
        return (steps.double() - self.centre) @ self.directions


def plane_of(statistics: Sequence[Statistics], ridge: float) -> Plane:
    """The plane in which two or more tasks, on one grid, lie furthest apart.

    With ``W = L Lᵀ`` the shared covariance, as the ``lda`` gate regularises it, and ``B`` that of
    the tasks' means, the directions are ``L⁻ᵀ v`` for the leading eigenvectors ``v`` of
    ``L⁻¹ B L⁻ᵀ`` (Fisher's discriminants; Hastie, Tibshirani and Friedman, "The Elements of
    Statistical Learning", section 4.3.3). Two tasks differ in one direction only: the second is
    then 0 for both.

    Args:
        statistics: of the tasks.
        ridge: relative to the diagonal of the covariance.
    """
    with one_thread():
        means = torch.stack([one.total.double() / one.count for one in statistics])
        own = [_covariance(one, mean) for one, mean in zip(statistics, means, strict=True)]
        shared = regularised(torch.stack(own).mean(0), ridge)
        root = torch.linalg.cholesky(shared)
        # [tasks, width]: in these coordinates the shared covariance is the identity
        centre = means.mean(0)
        white = torch.linalg.solve_triangular(root, (means - centre).T, upper=False).T
        _, values, right = torch.linalg.svd(white, full_matrices=False)
        chosen = min(2, len(means) - 1)
        turned = _facing(right[:chosen])
        directions = torch.zeros(len(centre), 2, dtype=torch.float64)
        directions[:, :chosen] = torch.linalg.solve_triangular(root.T, turned.T, upper=True)
        places = torch.zeros(len(means), 2, dtype=torch.float64)
        places[:, :chosen] = white @ turned.T
        spreads = torch.eye(2, dtype=torch.float64).repeat(len(means), 1, 1)
        for spread, covariance in zip(spreads, own, strict=True):
            seen = directions[:, :chosen]
            spread[:chosen, :chosen] = seen.T @ covariance @ seen
        variance = values.square()
        told = float(variance[:chosen].sum() / variance.sum().clamp_min(1e-300))
        distances = torch.cdist(white, white)
        grid = statistics[0].grid
        return Plane(places, spreads, told, distances, grid, centre, directions)


def _covariance(statistics: Statistics, mean: Tensor) -> Tensor:
    """``[width, width]`` about the task's own mean, in squared steps."""
    products = square(statistics.upper, statistics.width).double() / statistics.count
    return products - torch.outer(mean, mean)


def _facing(directions: Tensor) -> Tensor:
    """The same directions, each turned so that its largest number is positive."""
    largest = directions.abs().argmax(1, keepdim=True)
    return directions * directions.gather(1, largest).sign()
