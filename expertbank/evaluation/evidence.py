"""Per-row evidence of an evaluation, as safetensors bytes.

Oracle evidence is taken once, at ``add``: what the named expert answered to every evaluation
row. Routed evidence is what one router chose for those same rows. Together they give routed
accuracy without a forward pass.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from expertbank.errors import IntegrityError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
_KEY = "expertbank"


@dataclass(frozen=True, slots=True)
class OracleEvidence:
    """What the named expert answered.

    Attributes:
        logits: ``[rows, classes]`` float32, ``-inf`` beyond a row's choices; for regression
            ``[rows, 1]``, the value.
        targets: ``[rows]`` int32 class or choice indices; for regression float32 values.
        row_digests: SHA-256 of each row, hexadecimal.
        clusters: ``[rows]`` int32, the same number for rows of one group (one contract, one
            question); ``None`` where the task's rows stand alone.
    """

    logits: Floats
    targets: Ints | Floats
    row_digests: tuple[str, ...]
    clusters: Ints | None = None

    @property
    def is_value(self) -> bool:
        """Whether the answers are values, not classes: then no row is right or wrong."""
        return bool(np.issubdtype(self.targets.dtype, np.floating))

    @property
    def values(self) -> Floats:
        """``[rows]`` answered values of a regression expert."""
        return _floats(self.logits[:, 0])

    @property
    def predicted(self) -> Ints:
        """``[rows]`` index of the highest logit."""
        return np.asarray(self.logits.argmax(1), dtype=np.int32)

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """``[rows]`` whether the answer was the target."""
        return np.asarray(self.predicted == self.targets)

    def to_bytes(self) -> bytes:
        """One safetensors file; equal evidence gives equal bytes."""
        digests = np.frombuffer(bytes.fromhex("".join(self.row_digests)), dtype=np.uint8)
        tensors: dict[str, npt.NDArray[np.generic]] = {
            "logits": np.ascontiguousarray(self.logits, dtype=np.float32),
            "row_digests": digests.reshape(-1, 32).copy(),
            "targets": np.ascontiguousarray(self.targets),
        }
        if self.clusters is not None:
            tensors["clusters"] = np.ascontiguousarray(self.clusters, dtype=np.int32)
        data: bytes = save(
            tensors, metadata={_KEY: json.dumps({"format": 1, "evidence": "oracle"})}
        )
        return data

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> OracleEvidence:
        """Inverse of ``to_bytes``.

        Raises:
            IntegrityError: not oracle evidence.
        """
        tensors = _load(data, where)
        try:
            digests = tuple(row.tobytes().hex() for row in tensors["row_digests"])
            is_value = np.issubdtype(tensors["targets"].dtype, np.floating)
            targets = (_floats if is_value else _ints)(tensors["targets"])
            clusters = _ints(tensors["clusters"]) if "clusters" in tensors else None
            evidence = cls(_floats(tensors["logits"]), targets, digests, clusters)
        except (KeyError, ValueError) as error:
            raise IntegrityError(f"{where}: not oracle evidence ({error!r})") from error
        rows = (len(digests),)
        if evidence.logits.shape[:-1] != rows or evidence.targets.shape != rows:
            raise IntegrityError(f"{where}: logits, targets and digests do not fit each other")
        if clusters is not None and clusters.shape != rows:
            raise IntegrityError(f"{where}: clusters and rows do not fit each other")
        return evidence


@dataclass(frozen=True, slots=True)
class RoutedEvidence:
    """What one router chose.

    Attributes:
        choice: ``[rows]`` int32 position of the chosen member in the router's list.
        confidence: ``[rows]`` float32 probability of that member.
        free_choice: ``[rows]`` int32, what a gate of the same kind chose that was fitted with
            every member a candidate for every row; ``None`` where no such gate was fitted.
    """

    choice: Ints
    confidence: Floats
    free_choice: Ints | None = None

    def to_bytes(self) -> bytes:
        """One safetensors file; equal evidence gives equal bytes."""
        tensors: dict[str, npt.NDArray[np.generic]] = {
            "choice": np.ascontiguousarray(self.choice, dtype=np.int32),
            "confidence": np.ascontiguousarray(self.confidence, dtype=np.float32),
        }
        if self.free_choice is not None:
            tensors["free_choice"] = np.ascontiguousarray(self.free_choice, dtype=np.int32)
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
        tensors = _load(data, where)
        try:
            free = _ints(tensors["free_choice"]) if "free_choice" in tensors else None
            evidence = cls(_ints(tensors["choice"]), _floats(tensors["confidence"]), free)
        except KeyError as error:
            raise IntegrityError(f"{where}: not routed evidence ({error!r})") from error
        if evidence.choice.ndim != 1 or evidence.choice.shape != evidence.confidence.shape:
            raise IntegrityError(f"{where}: choices and confidences do not fit each other")
        if free is not None and free.shape != evidence.choice.shape:
            raise IntegrityError(f"{where}: choices with and without the mask do not fit")
        return evidence


def _floats(values: npt.NDArray[np.generic]) -> Floats:
    return np.asarray(values, dtype=np.float32)


def _ints(values: npt.NDArray[np.generic]) -> Ints:
    return np.asarray(values, dtype=np.int32)


def _load(data: bytes, where: str) -> dict[str, npt.NDArray[np.generic]]:
    try:
        tensors: dict[str, npt.NDArray[np.generic]] = load(data)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{where}: not a safetensors file ({error})") from error
    return tensors
