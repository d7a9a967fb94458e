"""What `--keep stats` keeps of one expert's rows: moments of a fixed projection, as bytes.

Counts, sums and the Gram matrix of ``WIDTH`` numbers a row. Moments of a single row are that row,
so ``add`` refuses tasks of a handful of rows; they are aggregates, not a privacy guarantee in
the sense of differential privacy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expertbank.errors import IntegrityError
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.records import ROW_SHAPES, RowShape
from expertbank.routing.moments import Moments
from expertbank.routing.projection import PROJECTIONS, projection_of

NAME = "stats"
WIDTH = PROJECTIONS[NAME]


@dataclass(frozen=True, slots=True)
class MomentsFile:
    """Moments of one expert's training rows, projected.

    ``4 WIDTH (WIDTH + 3)`` bytes of numbers, 1.05 MB, however many rows there were.

    Attributes:
        shape_counts: rows that bring each of ``ROW_SHAPES``; their sum is the count.
        total: ``[width]`` float64 sum of projected features.
        gram: ``[width, width]`` float64 sum of their outer products.
        dimension: width of the features before projection.
        feature_spec_digest: the spec the features were made under.
    """

    shape_counts: tuple[int, ...]
    total: Tensor
    gram: Tensor
    dimension: int
    feature_spec_digest: str

    @classmethod
    def of(
        cls, features: Tensor, shapes: Sequence[RowShape], feature_spec_digest: str
    ) -> MomentsFile:
        """Moments of ``features [rows, dimension]``; the rows themselves are not kept."""
        narrow = features.double() @ projection_of(features.shape[1], NAME)
        counts = tuple(list(shapes).count(shape) for shape in ROW_SHAPES)
        return cls(counts, narrow.sum(0), narrow.T @ narrow, features.shape[1], feature_spec_digest)

    @property
    def count(self) -> int:
        """Rows seen."""
        return sum(self.shape_counts)

    @property
    def reads(self) -> tuple[RowShape, ...]:
        """The shapes of row that the expert was trained on."""
        return tuple(s for s, n in zip(ROW_SHAPES, self.shape_counts, strict=True) if n)

    @property
    def moments(self) -> Moments:
        """The same as what adds up over parts of a task and over tasks."""
        return Moments(self.count, self.total, self.gram)

    @property
    def width(self) -> int:
        """Numbers a projected row."""
        return len(self.total)

    @property
    def n_train(self) -> int:
        """Rows that the moments are of."""
        return self.count

    @property
    def n_eval(self) -> int:
        """None: no evaluation row is kept."""
        return 0

    def to_bytes(self) -> bytes:
        """One safetensors file; equal moments give equal bytes."""
        metadata = {
            "format": 1,
            "feature_spec_digest": self.feature_spec_digest,
            "dimension": self.dimension,
            "shape_counts": list(self.shape_counts),
        }
        rows, columns = torch.triu_indices(len(self.total), len(self.total))
        return write_safetensors({"gram": self.gram[rows, columns], "total": self.total}, metadata)

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> MomentsFile:
        """Inverse of ``to_bytes``.

        Raises:
            IntegrityError: not a moments file, or numbers that cannot be moments.
        """
        tensors, metadata = read_safetensors(data, where)
        try:
            total, upper = tensors["total"], tensors["gram"]
            counts = tuple(int(number) for number in metadata["shape_counts"])
            dimension = int(metadata["dimension"])
            digest = str(metadata["feature_spec_digest"])
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"{where}: not a moments file ({error!r})") from error
        width = min(WIDTH, dimension)
        fits = total.shape == (width,) and upper.shape == (width * (width + 1) // 2,) and width > 0
        fits = fits and len(counts) == len(ROW_SHAPES) and min(counts) >= 0 and sum(counts) > 0
        for tensor in (total, upper):
            fits = fits and tensor.dtype == torch.float64 and bool(torch.isfinite(tensor).all())
        if not fits:
            raise IntegrityError(f"{where}: these numbers are no moments of {dimension} features")
        gram = torch.zeros(width, width, dtype=torch.float64)
        rows, columns = torch.triu_indices(width, width)
        gram[rows, columns] = upper
        gram[columns, rows] = upper
        return cls(counts, total, gram, dimension, digest)
