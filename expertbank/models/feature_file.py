"""Cached routing features of one expert's rows, as safetensors bytes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors.torch import save
from torch import Tensor

from expertbank.config import canonical_json
from expertbank.errors import IntegrityError
from expertbank.models.expert_file import METADATA_KEY, read_safetensors


@dataclass(frozen=True, slots=True)
class FeatureFile:
    """All the router will ever need of a task's rows; no text.

    Attributes:
        train: ``[rows, dimension]`` float16, to fit on.
        evaluation: ``[rows, dimension]`` float16, to report on, in the order of the evidence.
        feature_spec_digest: the spec they were made under.
    """

    train: Tensor
    evaluation: Tensor
    feature_spec_digest: str

    def to_bytes(self) -> bytes:
        """One safetensors file; equal features give equal bytes."""
        metadata = {"format": 1, "feature_spec_digest": self.feature_spec_digest}
        data: bytes = save(
            {"evaluation": self.evaluation.contiguous(), "train": self.train.contiguous()},
            metadata={METADATA_KEY: canonical_json(metadata)},
        )
        return data

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> FeatureFile:
        """Inverse of ``to_bytes``.

        Raises:
            IntegrityError: not a feature file, or numbers that are not finite.
        """
        tensors, metadata = read_safetensors(data, where)
        try:
            file = cls(
                tensors["train"], tensors["evaluation"], str(metadata["feature_spec_digest"])
            )
        except KeyError as error:
            raise IntegrityError(f"{where}: not a feature file ({error!r})") from error
        for tensor in (file.train, file.evaluation):
            bad = tensor.dtype != torch.float16 or not bool(torch.isfinite(tensor).all())
            if bad or tensor.dim() != 2:
                raise IntegrityError(f"{where}: features are not a finite float16 matrix")
        return file
