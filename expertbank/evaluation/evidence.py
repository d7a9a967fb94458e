"""What one router chose for the evaluation rows, as safetensors bytes.

Together with ``predictions`` it gives routed accuracy without a forward pass.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from expertbank.errors import IntegrityError
from expertbank.evaluation.predictions import load_arrays

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
_KEY = "expertbank"


@dataclass(frozen=True, slots=True)
class RoutedEvidence:
    """What one router chose.

    Attributes:
        choice: ``[rows]`` int32 position of the chosen member in the router's list.
        confidence: ``[rows]`` float32 probability of that member.
    """

    choice: Ints
    confidence: Floats

    def to_bytes(self) -> bytes:
        """One safetensors file; equal evidence gives equal bytes."""
        tensors: dict[str, npt.NDArray[np.generic]] = {
            "choice": np.ascontiguousarray(self.choice, dtype=np.int32),
            "confidence": np.ascontiguousarray(self.confidence, dtype=np.float32),
        }
        data: bytes = save(
            tensors, metadata={_KEY: json.dumps({"format": 1, "evidence": "routed"})}
        )
        return data

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> RoutedEvidence:
        """Inverse of ``to_bytes``.

        Raises:
            IntegrityError: not routed evidence.
        """
        tensors = load_arrays(data, where)
        try:
            evidence = cls(_ints(tensors["choice"]), _floats(tensors["confidence"]))
        except KeyError as error:
            raise IntegrityError(f"{where}: not routed evidence ({error!r})") from error
        if evidence.choice.ndim != 1 or evidence.choice.shape != evidence.confidence.shape:
            raise IntegrityError(f"{where}: choices and confidences do not fit each other")
        return evidence


def _floats(values: npt.NDArray[np.generic]) -> Floats:
    return np.asarray(values, dtype=np.float32)


def _ints(values: npt.NDArray[np.generic]) -> Ints:
    return np.asarray(values, dtype=np.int32)
