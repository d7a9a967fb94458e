"""What a safetensors file says of itself, read without loading a tensor: no torch is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expertbank.errors import MALFORMED, IntegrityError

MAX_HEADER_BYTES = 100_000_000
METADATA_KEY = "expertbank"
"""The one metadata key: with several, safetensors writes them in random order."""
_LENGTH = 8
"""Bytes of the header's length at the start of a file, little-endian."""


@dataclass(frozen=True, slots=True)
class Header:
    """Shapes of the tensors by name, and expertbank's own metadata, empty in others' files."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, Any]


def header_bytes(start: bytes) -> int:
    """How many bytes at the start of a file its header takes, as far as ``start`` tells it."""
    return _LENGTH + min(int.from_bytes(start[:_LENGTH], "little"), MAX_HEADER_BYTES)


def read_header(data: bytes, where: str) -> Header:
    """The header of a safetensors file in memory, of which the first ``header_bytes`` are enough.

    Raises:
        IntegrityError: not a safetensors file.
    """
    length = int.from_bytes(data[:_LENGTH], "little")
    if len(data) < _LENGTH or length > min(len(data) - _LENGTH, MAX_HEADER_BYTES):
        raise IntegrityError(f"{where}: not a safetensors file (its header is cut off)")
    try:
        content = json.loads(data[_LENGTH : _LENGTH + length])
        metadata = json.loads(content.pop("__metadata__", {}).get(METADATA_KEY, "{}"))
        shapes = {str(name): tuple(map(int, entry["shape"])) for name, entry in content.items()}
    except MALFORMED as error:
        raise IntegrityError(f"{where}: not a safetensors file ({error!r})") from error
    return Header(shapes, metadata if isinstance(metadata, dict) else {})
