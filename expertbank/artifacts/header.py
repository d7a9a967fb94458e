"""What a safetensors file says of itself, read without loading a tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expertbank.errors import IntegrityError

MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Header:
    """Shapes of the tensors by name, and expertbank's own metadata."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, Any]


def read_header(data: bytes, where: str) -> Header:
    """The header of a safetensors file in memory.

    Raises:
        IntegrityError: not a safetensors file.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, MAX_HEADER_BYTES):
        raise IntegrityError(f"{where}: not a safetensors file (its header is cut off)")
    try:
        content = json.loads(data[8 : 8 + length])
        metadata = json.loads(content.pop("__metadata__", {}).get("expertbank", "{}"))
        shapes = {str(name): tuple(map(int, entry["shape"])) for name, entry in content.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{where}: not a safetensors file ({error!r})") from error
    return Header(shapes, metadata if isinstance(metadata, dict) else {})
