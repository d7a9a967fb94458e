"""A checkpoint's tensors as they stand in its safetensors files: their names and their digest.

No library reads the tensors here, so no release of one can change what comes out. Names are the
checkpoint's own, as the bare model has them: without a task head's prefix and without what a
backbone does not use.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expertbank.config import canonical_json
from expertbank.errors import MALFORMED, IntegrityError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"

HEADS = (
    "classifier.",
    "cls.",
    "decoder.bias",
    "decoder.weight",
    "discriminator_predictions.",
    "embed_out.",
    "generator_lm_head.",
    "generator_predictions.",
    "head.",
    "lm_head.",
    "lm_predictions.",
    "mask_predictions.",
    "qa_outputs.",
    "score.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "vocab_transform.",
)
"""How the names of task heads begin that stand beside a prefixed bare model (``bert.…``)."""

_BUFFERS = frozenset({"position_ids", "inv_freq", "masked_bias"})
"""Old checkpoints carry them; every model that has them works them out anew."""

_OLD_WORDS = {"gamma": "weight", "beta": "bias"}
_MASK_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?", "U8": "u1"}


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One tensor of a file: where its bytes are, and what they mean."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview

    @property
    def is_mask(self) -> bool:
        """Whether it is GPT-2's causal mask, which old checkpoints carry as a ``bias``."""
        size = self.shape[-1] if self.shape else 0
        if not self.name.endswith(".bias") or self.shape != (1, 1, size, size):
            return False
        kind = _MASK_TYPES.get(self.dtype)
        if kind is None:
            return False
        values = np.frombuffer(self.data, dtype=kind).reshape(size, size)
        return bool(np.array_equal(values, np.tri(size, dtype=values.dtype)))


def is_pooler(name: str) -> bool:
    """Poolers are not used here, and some checkpoints leave theirs out."""
    return "pooler" in name.split(".")


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a checkpoint, one or several; empty if they are not all there.

    Raises:
        IntegrityError: an index that is no index of files in the folder.
    """
    if (folder / WHOLE).is_file():
        return (folder / WHOLE,)
    if not (folder / INDEX).is_file():
        return ()
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        names = sorted(set(index["weight_map"].values()))
        outside = [name for name in names if Path(name).name != name]
    except MALFORMED as error:
        raise IntegrityError(f"{folder / INDEX}: not an index of weights ({error!r})") from error
    if outside:
        raise IntegrityError(f"{folder / INDEX}: {outside[0]!r} is not a file beside it")
    files = tuple(folder / name for name in names)
    return files if all(file.is_file() for file in files) else ()


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    """Name in the file to name in the bare model; what the bare model has not is left out.

    ``bert.encoder.…``, saved with a head, and ``encoder.…``, saved without one, are the same.
    """
    own = [name for name in names if not is_pooler(name) and _last(name) not in _BUFFERS]
    body = [name for name in own if not name.startswith(HEADS)]
    found = _without_prefix(body)
    if found == body:
        # Nothing to strip: a bare model, none of whose parts is a head whatever its name.
        body = found = own
    return {name: _new_word(short) for name, short in zip(body, found, strict=True)}


def _without_prefix(names: list[str]) -> list[str]:
    while names and len({name.partition(".")[0] for name in names}) == 1:
        if not all("." in name for name in names):
            break
        names = [name.partition(".")[2] for name in names]
    return names


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _new_word(name: str) -> str:
    """``LayerNorm.gamma`` of the first checkpoints is ``LayerNorm.weight`` since."""
    module, _, last = name.rpartition(".")
    return f"{module}.{_OLD_WORDS[last]}" if last in _OLD_WORDS and "Norm" in module else name


def has_tensor(folder: Path, name: str) -> bool:
    """Whether a checkpoint holds a tensor of the bare model, under its name there or prefixed.

    Raises:
        IntegrityError: a file that is no safetensors file.
    """
    with ExitStack() as stack:
        return any(
            f".{tensor.name}".endswith(f".{name}")
            for file in weight_files(folder)
            for tensor in _tensors(file, stack)
        )


def tensors_digest(folder: Path) -> tuple[str, frozenset[str]]:
    """SHA-256 over a checkpoint's tensors by name: type, shape and bytes as stored.

    Returns:
        The digest, and the types of its floating-point tensors, such as ``{"F32"}``.

    Raises:
        IntegrityError: a file that is no safetensors file.
    """
    with ExitStack() as stack:
        tensors = [one for file in weight_files(folder) for one in _tensors(file, stack)]
        names = canonical_names(tensor.name for tensor in tensors)
        kept = [one for one in tensors if one.name in names and not one.is_mask]
        digest = hashlib.sha256()
        for tensor in sorted(kept, key=lambda one: (names[one.name], one.name)):
            told = [names[tensor.name], tensor.dtype, list(tensor.shape)]
            digest.update(canonical_json(told).encode())
            digest.update(tensor.data)
        floats = frozenset(one.dtype for one in kept if one.dtype.startswith(("F", "BF")))
    return digest.hexdigest(), floats


def _tensors(file: Path, stack: ExitStack) -> Iterator[_Tensor]:
    """Every tensor of a file, its bytes mapped until ``stack`` is left."""
    try:
        handle = stack.enter_context(file.open("rb"))
        mapped = stack.enter_context(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
        start = 8 + int.from_bytes(mapped[:8], "little")
        header: dict[str, Any] = json.loads(mapped[8:start])
        whole = stack.enter_context(memoryview(mapped))
        for name, entry in header.items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                if not 0 <= first <= last <= len(whole) - start:
                    raise ValueError(f"{name} lies outside the file")
                data = stack.enter_context(whole[start + first : start + last])
                yield _Tensor(name, str(entry["dtype"]), tuple(entry["shape"]), data)
    except (OSError, *MALFORMED) as error:
        raise IntegrityError(f"{file}: not a safetensors file ({error!r})") from error
