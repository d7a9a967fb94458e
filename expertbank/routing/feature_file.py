"""Cached routing features of one expert's rows, as safetensors bytes.

Features are kept on the grid, a byte each; files of format 1 have them as they were, in float16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from expertbank.errors import IntegrityError
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.records import ROW_SHAPES, RowShape
from expertbank.routing.grid import STEP, on_grid


@dataclass(frozen=True, slots=True)
class FeatureFile:
    """All the router will ever need of a task's rows; no text.

    Attributes:
        train: ``[rows, dimension]`` float16, to fit on.
        evaluation: ``[rows, dimension]`` float16, to report on, in the order of the evidence.
        train_shapes: per training row what it brings.
        evaluation_shapes: per evaluation row what it brings.
        feature_spec_digest: the spec they were made under.
    """

    train: Tensor
    evaluation: Tensor
    train_shapes: tuple[RowShape, ...]
    evaluation_shapes: tuple[RowShape, ...]
    feature_spec_digest: str

    @property
    def width(self) -> int:
        """Numbers a row."""
        return int(self.train.shape[1])

    @property
    def n_train(self) -> int:
        """Training rows."""
        return len(self.train)

    @property
    def n_eval(self) -> int:
        """Evaluation rows."""
        return len(self.evaluation)

    def to_bytes(self) -> bytes:
        """One safetensors file; equal features give equal bytes.

        Raises:
            IntegrityError: a feature is not finite.
        """
        metadata = {"format": 2, "feature_spec_digest": self.feature_spec_digest}
        tensors = {
            "evaluation": _steps(self.evaluation),
            "evaluation_shapes": _to_tensor(self.evaluation_shapes),
            "train": _steps(self.train),
            "train_shapes": _to_tensor(self.train_shapes),
        }
        return write_safetensors(tensors, metadata)

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> FeatureFile:
        """Inverse of ``to_bytes``; features of format 1 are given as they are.

        Raises:
            IntegrityError: not a feature file, or numbers that are not finite.
        """
        tensors, metadata = read_safetensors(data, where)
        try:
            whole = [n for n in ("train", "evaluation") if tensors[n].dtype == torch.int8]
            for name in whole:
                tensors[name] = tensors[name].half() * STEP
            file = cls(
                tensors["train"],
                tensors["evaluation"],
                _from_tensor(tensors["train_shapes"]),
                _from_tensor(tensors["evaluation_shapes"]),
                str(metadata["feature_spec_digest"]),
            )
        except (KeyError, IndexError) as error:
            raise IntegrityError(f"{where}: not a feature file ({error!r})") from error
        for name, tensor in (("train", file.train), ("evaluation", file.evaluation)):
            bad = tensor.dtype != torch.float16 or tensor.dim() != 2
            if bad or not (name in whole or bool(torch.isfinite(tensor).all())):
                raise IntegrityError(f"{where}: features are not a finite float16 matrix")
        shapes = (file.train_shapes, file.evaluation_shapes)
        if tuple(map(len, shapes)) != (len(file.train), len(file.evaluation)):
            raise IntegrityError(f"{where}: features and shapes do not fit each other")
        return file


def _steps(features: Tensor) -> Tensor:
    if not bool(torch.isfinite(features).all()):
        raise IntegrityError("features to keep are not finite")
    return on_grid(features).to(torch.int8)


def _to_tensor(shapes: tuple[RowShape, ...]) -> Tensor:
    return torch.tensor([ROW_SHAPES.index(shape) for shape in shapes], dtype=torch.uint8)


def _from_tensor(codes: Tensor) -> tuple[RowShape, ...]:
    return tuple(ROW_SHAPES[code] for code in codes.flatten().tolist())
