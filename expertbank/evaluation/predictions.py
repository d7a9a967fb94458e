"""Per-row predictions of one expert on its evaluation rows, as safetensors bytes.

They are taken once, at ``add``, with the task given (what routing papers call the oracle).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from expertbank.errors import MALFORMED, IntegrityError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Texts = tuple[str, ...]
_KEY = "expertbank"
NOT_BY_ROW = frozenset({"thresholds", "texts", "wanted"})
"""Tensors of the file that have one number a label, or all texts in one; all others have one entry
a row."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What an expert answered to rows with labels; its kind knows what that means.

    Attributes:
        logits: ``[rows, width]`` float32, ``-inf`` beyond a row's own outputs.
        targets: ``[rows]`` or ``[rows, labels]``, int32 places or flags, or float32 values; of
            texts the same number for equal ones.
        row_digests: SHA-256 of each row, hexadecimal.
        clusters: ``[rows]`` int32, the same number for rows of one group (one contract, one
            question); ``None`` where the task's rows stand alone.
        thresholds: ``[labels]`` float32 logits from which on a label holds; ``None`` where the
            kind has none.
        texts: what was written, one a row; ``None`` where the kind has a head.
        wanted: the texts that it is compared with; ``None`` likewise.
    """

    logits: Floats
    targets: Ints | Floats
    row_digests: tuple[str, ...]
    clusters: Ints | None = None
    thresholds: Floats | None = None
    texts: Texts | None = None
    wanted: Texts | None = None

    def at(self, places: Sequence[int]) -> Predictions:
        """Those of some rows."""
        texts, wanted = (
            None if own is None else tuple(own[place] for place in places)
            for own in (self.texts, self.wanted)
        )
        return Predictions(
            self.logits[places],
            self.targets[places],
            tuple(self.row_digests[place] for place in places),
            None if self.clusters is None else self.clusters[places],
            self.thresholds,
            texts,
            wanted,
        )

    def to_bytes(self) -> bytes:
        """One safetensors file; equal predictions give equal bytes."""
        digests = np.frombuffer(bytes.fromhex("".join(self.row_digests)), dtype=np.uint8)
        tensors: dict[str, npt.NDArray[np.generic]] = {
            "logits": np.ascontiguousarray(self.logits, dtype=np.float32),
            "row_digests": digests.reshape(-1, 32).copy(),
            "targets": np.ascontiguousarray(self.targets),
        }
        if self.texts is not None and self.wanted is not None:
            tensors |= {"texts": _stored(self.texts), "wanted": _stored(self.wanted)}
        if self.clusters is not None:
            tensors["clusters"] = np.ascontiguousarray(self.clusters, dtype=np.int32)
        if self.thresholds is not None:
            tensors["thresholds"] = np.ascontiguousarray(self.thresholds, dtype=np.float32)
        data: bytes = save(
            tensors, metadata={_KEY: json.dumps({"format": 1, "evidence": "oracle"})}
        )
        return data

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Predictions:
        """Inverse of ``to_bytes``.

        Raises:
            IntegrityError: no such file, or its parts do not fit each other.
        """
        tensors = load_arrays(data, where)
        try:
            digests = tuple(row.tobytes().hex() for row in tensors["row_digests"])
            targets: Floats | Ints
            if np.issubdtype(tensors["targets"].dtype, np.floating):
                targets = np.asarray(tensors["targets"], dtype=np.float32)
            else:
                targets = np.asarray(tensors["targets"], dtype=np.int32)
            found = cls(
                np.asarray(tensors["logits"], dtype=np.float32),
                targets,
                digests,
                np.asarray(tensors["clusters"], dtype=np.int32) if "clusters" in tensors else None,
                np.asarray(tensors["thresholds"], dtype=np.float32)
                if "thresholds" in tensors
                else None,
                _texts(tensors["texts"]) if "texts" in tensors else None,
                _texts(tensors["wanted"]) if "texts" in tensors else None,
            )
        except MALFORMED as error:
            raise IntegrityError(f"{where}: not per-row predictions ({error!r})") from error
        rows, width = (len(digests),), found.logits.shape[-1:]
        if found.logits.shape[:-1] != rows or found.targets.shape not in {rows, rows + width}:
            raise IntegrityError(f"{where}: logits, targets and digests do not fit each other")
        if {len(texts) for texts in (found.texts, found.wanted) if texts is not None} - {*rows}:
            raise IntegrityError(f"{where}: texts and rows do not fit each other")
        if found.clusters is not None and found.clusters.shape != rows:
            raise IntegrityError(f"{where}: clusters and rows do not fit each other")
        if found.thresholds is not None and found.thresholds.shape != width:
            raise IntegrityError(f"{where}: thresholds and logits do not fit each other")
        return found


def _stored(texts: Texts) -> npt.NDArray[np.generic]:
    """Texts as one run of bytes: a JSON list."""
    return np.array(list(json.dumps(texts, ensure_ascii=False).encode()), dtype=np.uint8)


def _texts(stored: npt.NDArray[np.generic]) -> Texts:
    """Inverse of ``_stored``; ``ValueError`` for other bytes."""
    found = json.loads(stored.tobytes().decode("utf-8"))
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError("no list of texts")
    return tuple(found)


def load_arrays(data: bytes, where: str) -> dict[str, npt.NDArray[np.generic]]:
    """Arrays of a safetensors file in memory.

    Raises:
        IntegrityError: not a safetensors file.
    """
    try:
        tensors: dict[str, npt.NDArray[np.generic]] = load(data)
    except (SafetensorError, *MALFORMED) as error:
        raise IntegrityError(f"{where}: not a safetensors file ({error})") from error
    return tensors
