"""What one router chose for the evaluation rows, as safetensors bytes.

Together with ``predictions`` it gives routed accuracy without a forward pass.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def cluster_numbers(groups: Sequence[tuple[str, ...]]) -> Ints | None:
    """``[rows]`` cluster numbers in order of first appearance.

    Rows are in one cluster where any group value links them, directly or through other rows; a
    row without a group stands alone. ``None`` where no two rows are linked.
    """
    parent = list(range(len(groups)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first_with: dict[str, int] = {}
    for row, group in enumerate(groups):
        for value in group:
            parent[root(row)] = root(first_with.setdefault(value, row))
    numbers: dict[int, int] = {}
    found = [numbers.setdefault(root(row), len(numbers)) for row in range(len(groups))]
    return None if len(numbers) == len(found) else np.array(found, dtype=np.int32)


def _floats(values: npt.NDArray[np.generic]) -> Floats:
    return np.asarray(values, dtype=np.float32)


def _ints(values: npt.NDArray[np.generic]) -> Ints:
    return np.asarray(values, dtype=np.int32)
