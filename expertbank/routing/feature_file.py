"""Cached routing features of one expert's rows, as safetensors bytes.

Features are kept on the grid, a byte each; files of format 1 have them as they were, in float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from expertbank.errors import MALFORMED, IntegrityError
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.records import ROW_SHAPES, RowShape
from expertbank.routing.grid import STEP, on_grid
from expertbank.routing.sureness import is_sureness, read_guess, unasked

PARTS = ("train", "evaluation", "spans")
"""Names of the features in a file."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Features of short spans of training rows: what the same rows look like when less is said.

    Attributes:
        features: ``[spans, dimension]`` float16.
        shapes: per span what its row brings.
        tokens: ``[spans]`` int32, tokens of the longest sequence.
        summed: ``[spans]`` bool: those of rows that are in the statistics' sums are in them too;
            the others are of rows that sit out.
        sureness: ``[spans]`` int16 of the expert's answers, see ``sureness``.
    """

    features: Tensor
    shapes: tuple[RowShape, ...]
    tokens: Tensor
    summed: Tensor
    sureness: Tensor

    @classmethod
    def none(cls, dimension: int) -> Spans:
        """Where none were made."""
        nothing = torch.zeros(0, dimension, dtype=torch.float16)
        return cls(nothing, (), no_lengths(), no_lengths() > 0, unasked(0))


def no_lengths() -> Tensor:
    """``[0]`` int32."""
    return torch.zeros(0, dtype=torch.int32)


@dataclass(frozen=True, slots=True)
class FeatureFile:
    """All the router will ever need of a task's rows; no text.

    Attributes:
        train: ``[rows, dimension]`` float16, to fit on.
        evaluation: ``[rows, dimension]`` float16, to report on, in the order of the evidence.
        train_shapes: per training row what it brings.
        evaluation_shapes: per evaluation row what it brings.
        feature_spec_digest: the spec they were made under.
        train_tokens: ``[rows]`` int32, tokens of each training row's longest sequence; empty in
            files of before they were kept.
        spans: of some of the training rows; ``None`` likewise.
        sureness: ``[rows that sit out]`` int16 of the expert's answers to those training rows;
            ``None`` likewise.
        evaluation_sureness: ``[rows]`` int16 of those to the evaluation rows; ``None`` likewise.
        guess: steps of sureness of who guesses; ``None`` likewise.
    """

    train: Tensor
    evaluation: Tensor
    train_shapes: tuple[RowShape, ...]
    evaluation_shapes: tuple[RowShape, ...]
    feature_spec_digest: str
    train_tokens: Tensor = field(default_factory=no_lengths)
    spans: Spans | None = None
    sureness: Tensor | None = None
    evaluation_sureness: Tensor | None = None
    guess: int | None = None

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
        metadata: dict[str, Any] = {
            "format": 2,
            "feature_spec_digest": self.feature_spec_digest,
        }
        if self.guess is not None:
            metadata["guess"] = self.guess
        tensors = {
            "evaluation": _steps(self.evaluation),
            "evaluation_shapes": _to_tensor(self.evaluation_shapes),
            "train": _steps(self.train),
            "train_shapes": _to_tensor(self.train_shapes),
        }
        if len(self.train_tokens):
            tensors["train_tokens"] = self.train_tokens
        if self.spans is not None:
            tensors["spans"] = _steps(self.spans.features)
            tensors["span_shapes"] = _to_tensor(self.spans.shapes)
            tensors["span_tokens"] = self.spans.tokens
            tensors["span_summed"] = self.spans.summed.to(torch.uint8)
        if self.sureness is not None and self.evaluation_sureness is not None:
            tensors["sureness"] = self.sureness
            tensors["evaluation_sureness"] = self.evaluation_sureness
            if self.spans is not None:
                tensors["span_sureness"] = self.spans.sureness
        return write_safetensors(tensors, metadata)

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> FeatureFile:
        """Inverse of ``to_bytes``; features of format 1 are given as they are.

        Raises:
            IntegrityError: not a feature file, or numbers that are not finite.
        """
        tensors, metadata = read_safetensors(data, where)
        try:
            whole = [n for n in PARTS if n in tensors and tensors[n].dtype == torch.int8]
            for name in whole:
                tensors[name] = tensors[name].half() * STEP
            file = cls(
                tensors["train"],
                tensors["evaluation"],
                _from_tensor(tensors["train_shapes"]),
                _from_tensor(tensors["evaluation_shapes"]),
                str(metadata["feature_spec_digest"]),
                tensors.get("train_tokens", no_lengths()),
                _spans(tensors),
                tensors.get("sureness"),
                tensors.get("evaluation_sureness"),
                read_guess(metadata),
            )
        except MALFORMED as error:
            raise IntegrityError(f"{where}: not a feature file ({error!r})") from error
        own = {"train": file.train, "evaluation": file.evaluation}
        if file.spans is not None:
            own["spans"] = file.spans.features
        for name, tensor in own.items():
            bad = tensor.dtype != torch.float16 or tensor.dim() != 2
            if bad or not (name in whole or bool(torch.isfinite(tensor).all())):
                raise IntegrityError(f"{where}: features are not a finite float16 matrix")
        shapes = (file.train_shapes, file.evaluation_shapes)
        if tuple(map(len, shapes)) != (len(file.train), len(file.evaluation)):
            raise IntegrityError(f"{where}: features and shapes do not fit each other")
        spans = file.spans or Spans.none(file.width)
        fits = len(file.train_tokens) in (0, len(file.train))
        fits = fits and spans.features.shape == (len(spans.shapes), file.width)
        fits = fits and spans.tokens.shape == spans.summed.shape == (len(spans.shapes),)
        for lengths in (file.train_tokens, spans.tokens):
            fits = fits and lengths.dtype == torch.int32 and not bool((lengths < 1).any())
        if not fits:
            raise IntegrityError(f"{where}: features and lengths do not fit each other")
        if not file._sure():
            raise IntegrityError(f"{where}: features and how sure answers were do not fit")
        return file

    def _sure(self) -> bool:
        """Whether what is said of the expert's answers fits the rows."""
        spans = self.spans or Spans.none(self.width)
        fits = is_sureness(spans.sureness, len(spans.shapes))
        if self.sureness is not None:
            fits = fits and is_sureness(self.sureness, len(self.sureness))
            fits = fits and len(self.sureness) <= self.n_train
        if self.evaluation_sureness is not None:
            fits = fits and is_sureness(self.evaluation_sureness, self.n_eval)
        return fits


def _spans(tensors: Mapping[str, Tensor]) -> Spans | None:
    if "spans" not in tensors:
        return None
    shapes, summed = _from_tensor(tensors["span_shapes"]), tensors["span_summed"] > 0
    sureness = tensors.get("span_sureness", unasked(len(shapes)))
    return Spans(tensors["spans"], shapes, tensors["span_tokens"], summed, sureness)


def _steps(features: Tensor) -> Tensor:
    if not bool(torch.isfinite(features).all()):
        raise IntegrityError("features to keep are not finite")
    return on_grid(features).to(torch.int8)


def _to_tensor(shapes: tuple[RowShape, ...]) -> Tensor:
    return torch.tensor([ROW_SHAPES.index(shape) for shape in shapes], dtype=torch.uint8)


def _from_tensor(codes: Tensor) -> tuple[RowShape, ...]:
    return tuple(ROW_SHAPES[code] for code in codes.flatten().tolist())
