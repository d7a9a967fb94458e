"""Tensors and plain facts as one safetensors file: equal contents give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from expertbank.config import canonical_json
from expertbank.errors import MALFORMED, IntegrityError
from expertbank.files.header import METADATA_KEY, read_header


def write_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """The file's bytes; they do not depend on the order of either mapping.

    Raises:
        ValueError: metadata with a number that is not finite.
    """
    ready = {name: tensor.contiguous() for name, tensor in tensors.items()}
    data: bytes = save(ready, metadata={METADATA_KEY: canonical_json(metadata, finite=True)})
    return data


def read_safetensors(data: bytes, where: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and our metadata of a safetensors file in memory.

    Raises:
        IntegrityError: not a safetensors file, or not one of ours.
    """
    tensors, metadata = read_tensors(data, where), read_header(data, where).metadata
    if not metadata:
        raise IntegrityError(f"{where}: not an expertbank safetensors file (no metadata of ours)")
    return tensors, dict(metadata)


def read_tensors(data: bytes, where: str) -> dict[str, Tensor]:
    """Tensors of any safetensors file in memory.

    Raises:
        IntegrityError: not a safetensors file.
    """
    try:
        tensors: dict[str, Tensor] = load(data)
    except (SafetensorError, *MALFORMED) as error:
        raise IntegrityError(f"{where}: not a safetensors file ({error})") from error
    return tensors
