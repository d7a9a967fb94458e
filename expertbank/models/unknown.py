"""How unlike every known task a row is: relative Mahalanobis distance from stored statistics.

(Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection", 2021.)
One Gaussian a column with a covariance that all columns share, one Gaussian over everything;
the score is the distance to the nearest column minus the distance to everything.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from expertbank.errors import IntegrityError
from expertbank.models.projection import sign_projection

PROJECTIONS = {"unknown": 256, "stats": 512}
"""Names of the fixed projections and the width each projects to. ``stats`` is the one whose
moments a bank keeps that keeps no features."""


@dataclass(frozen=True, slots=True)
class UnknownModel:
    """Gaussians over projected features, stored as what whitens them.

    Size: ``4 width (2 width + columns + 1)`` bytes: half a megabyte, and a kilobyte a column.

    Attributes:
        dimension: width of the features.
        projection: name of the fixed projection they go through first.
        threshold: scores above it are called unknown.
        relative: whether the distance to everything is subtracted.
        within: ``[width, width]`` float32: features times it have unit covariance about their
            column's mean.
        means: ``[columns, width]`` float32 means of the columns, whitened by ``within``.
        overall: ``[width, width]`` float32: the same about the mean of everything.
        centre: ``[width]`` float32 mean of everything, whitened by ``overall``.
    """

    dimension: int
    projection: str
    threshold: float
    relative: bool
    within: Tensor
    means: Tensor
    overall: Tensor
    centre: Tensor

    def score(self, features: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Unknown score ``[rows]`` in float64; higher for rows less like any column.

        In double precision, from the same float16 features that routing reads, so that it
        does not depend on how rows were batched.

        Args:
            features: ``[rows, dimension]``.
            allowed: ``[rows, columns]`` bool, the columns that count for a row; all if ``None``.
        """
        projection = projection_of(self.dimension, self.projection).to(features.device)
        return self.score_projected(features.double() @ projection, allowed)

    def score_projected(self, values: Tensor, allowed: Tensor | None = None) -> Tensor:
        """The same for ``values [rows, width]`` that went through the projection already."""
        near = values @ self.within.double()
        # [rows, columns], summed out: rows x columns x width would not fit for many columns
        means = self.means.double()
        distances = near.square().sum(1, keepdim=True) - 2 * near @ means.T + means.square().sum(1)
        if allowed is not None:
            distances = distances.masked_fill(~allowed.to(distances.device), float("inf"))
        nearest = distances.amin(1)
        if not self.relative:
            return nearest
        far = values @ self.overall.double() - self.centre.double()
        return nearest - far.square().sum(1)

    def only(self, columns: Sequence[int]) -> UnknownModel:
        """The model without the other columns' means."""
        return replace(self, means=self.means[list(columns)].contiguous())

    def facts(self) -> dict[str, Any]:
        """What is not a tensor, as plain JSON."""
        return {
            "dimension": self.dimension,
            "projection": self.projection,
            "threshold": self.threshold,
            "relative": self.relative,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        return {
            "unknown.within": self.within,
            "unknown.means": self.means,
            "unknown.overall": self.overall,
            "unknown.centre": self.centre,
        }

    @classmethod
    def read(
        cls, tensors: MutableMapping[str, Tensor], facts: Any, where: str
    ) -> UnknownModel | None:
        """Take the model's tensors out of ``tensors``; ``None`` where ``facts`` is.

        Raises:
            IntegrityError: numbers that are not finite float32.
            KeyError: a tensor or fact is missing.
        """
        if facts is None:
            return None
        model = cls(
            int(facts["dimension"]),
            str(facts["projection"]),
            float(facts["threshold"]),
            bool(facts["relative"]),
            *(tensors.pop(f"unknown.{n}") for n in ("within", "means", "overall", "centre")),
        )
        for name, tensor in model.tensors().items():
            if tensor.dtype != torch.float32 or not bool(torch.isfinite(tensor).all()):
                raise IntegrityError(f"{where}: {name} is not finite float32")
        return model

    def check(self, dimension: int, columns: int, where: str) -> None:
        """Raises IntegrityError: shapes that do not fit a gate of this width and columns."""
        width = min(dimension, PROJECTIONS.get(self.projection, 0))
        fits = width > 0 and self.dimension == dimension and math.isfinite(self.threshold)
        fits = fits and self.within.shape == self.overall.shape == (width, width)
        if not fits or self.means.shape != (columns, width) or self.centre.shape != (width,):
            raise IntegrityError(f"{where}: unknown statistics do not fit {columns} columns")


def projection_of(dimension: int, name: str) -> Tensor:
    """``[dimension, width]`` float64; narrow features are turned, not made wider."""
    return sign_projection(dimension, min(dimension, PROJECTIONS[name]), name)
