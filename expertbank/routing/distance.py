"""The unknown score of routers that were fitted by expertbank 0.1: still read, no longer fitted.

(Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection", 2021.)
One Gaussian a column with a covariance that all columns share, one Gaussian over everything;
the score is the distance to the nearest column minus the distance to everything.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from expertbank.errors import IntegrityError
from expertbank.routing.gaussians import Distance
from expertbank.routing.projection import PROJECTIONS, projection_of
from expertbank.routing.unknown import Answered, Asked, Judged


@dataclass(frozen=True)
class DistanceModel:
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

    def strangeness(self, asked: Asked) -> Tensor:
        """See ``Unknown``."""
        return self.score(asked.values, asked.scores > float("-inf"))

    def judge(self, answered: Answered) -> Judged:
        """See ``Unknown``: above the threshold a row is unknown, whatever an expert says."""
        return Judged(answered.strangeness, answered.strangeness > self.threshold)

    @property
    def width(self) -> int:
        """Numbers that it reads of a row."""
        return self.dimension

    def score(self, features: Tensor, allowed: Tensor) -> Tensor:
        """Unknown score ``[rows]`` in float64; higher for rows less like any column.

        Args:
            features: ``[rows, dimension]``.
            allowed: ``[rows, columns]`` bool, the columns that count for a row.
        """
        values = features.double() @ projection_of(self.dimension, self.projection)
        return self._distance.of(values, allowed)

    @cached_property
    def _distance(self) -> Distance:
        """Made once: threads that race here get equal numbers."""
        stored = (tensor.double() for tensor in self.tensors().values())
        return Distance.between(*stored, relative=self.relative)

    def only(self, columns: Sequence[int]) -> DistanceModel:
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
    def read(cls, tensors: MutableMapping[str, Tensor], facts: Any, where: str) -> DistanceModel:
        """Take the model's tensors out of ``tensors``.

        Raises:
            IntegrityError: numbers that are not float32.
            KeyError: a tensor or fact is missing.
        """
        model = cls(
            int(facts["dimension"]),
            str(facts["projection"]),
            float(facts["threshold"]),
            bool(facts["relative"]),
            *(tensors.pop(f"unknown.{n}") for n in ("within", "means", "overall", "centre")),
        )
        for name, tensor in model.tensors().items():
            if tensor.dtype != torch.float32:
                raise IntegrityError(f"{where}: {name} is not float32")
        return model

    def check(self, dimension: int, columns: int, where: str) -> None:
        """Raises IntegrityError: shapes that do not fit a gate of this width and columns."""
        width = min(dimension, PROJECTIONS.get(self.projection, 0))
        fits = width > 0 and self.dimension == dimension and math.isfinite(self.threshold)
        fits = fits and self.within.shape == self.overall.shape == (width, width)
        if not fits or self.means.shape != (columns, width) or self.centre.shape != (width,):
            raise IntegrityError(f"{where}: unknown statistics do not fit {columns} columns")
