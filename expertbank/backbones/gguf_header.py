"""What stands at the head of a GGUF file, read without any library: what it is, and if it is whole.

A GGUF file is one model of llama.cpp's: metadata, the tokenizer among it, a list of tensors, and
their bytes. See https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"GGUF"

_NUMBERS = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9
_WIDEST = 1 << 20
"""Largest multiple of bytes that tensors may stand at; files have 32."""
_DEEPEST = 8
"""Lists within lists that are read; no real file has more than two."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as the header lists it.

    Attributes:
        name: llama.cpp's name.
        shape: numbers of elements, the fastest first.
        kind: number of its type; most are quantised.
        offset: where its bytes begin, from the first tensor's.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True, slots=True)
class Header:
    """The head of a GGUF file.

    Attributes:
        values: metadata by key; of a list only its length.
        tensors: the tensors, in the file's order.
        start: where the first tensor's bytes begin in the file.
        size: bytes of the whole file.
    """

    values: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    start: int
    size: int

    @property
    def architecture(self) -> str:
        """What llama.cpp calls the family, such as ``llama``."""
        return str(self.values.get("general.architecture", ""))

    @property
    def has_tokenizer(self) -> bool:
        """Whether the file holds a vocabulary."""
        return bool(self.values.get("tokenizer.ggml.tokens"))

    def lacking(self, sizes: Mapping[int, tuple[int, int]]) -> int:
        """Bytes that the tensors need beyond the end of the file; 0 for a whole one.

        Args:
            sizes: type to the elements of a block, and its bytes; other types are not counted.
        """
        end = self.start
        for one in self.tensors:
            if one.kind in sizes:
                elements, size = sizes[one.kind]
                count = 1
                for extent in one.shape:
                    count *= extent
                end = max(end, self.start + one.offset + count // elements * size)
        return max(0, end - self.size)


def is_gguf(path: Path) -> bool:
    """Whether a file says of itself that it is GGUF."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_header(path: Path) -> Header:
    """Read the head of a file.

    Raises:
        ValueError: it is damaged or cut short within the head, or of a version that is not read.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin as GGUF files do")
        version = _number(file, "I")
        if version not in {2, 3}:
            raise ValueError(f"version {version} of the format is not read, 2 and 3 are")
        tensors, pairs = _count(file), _count(file)
        values = {_text(file): _value(file, _number(file, "I")) for _ in range(pairs)}
        listed = tuple(_tensor(file) for _ in range(tensors))
        step = values.get("general.alignment", 32)
        if type(step) is not int or not 1 <= step <= _WIDEST:
            raise ValueError(f"its tensors cannot stand at multiples of {step!r} bytes")
        start = -(-file.tell() // step) * step
        return Header(values, listed, start, path.stat().st_size)


def _tensor(file: BinaryIO) -> Tensor:
    name = _text(file)
    extents = _number(file, "I")
    if extents > 8:
        raise ValueError(f"tensor {name!r} has {extents} dimensions")
    shape = tuple(_number(file, "Q") for _ in range(extents))
    return Tensor(name, shape, _number(file, "I"), _number(file, "Q"))


def _value(file: BinaryIO, kind: int, depth: int = 0) -> Any:
    if kind in _NUMBERS:
        return _number(file, _NUMBERS[kind])
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY or depth == _DEEPEST:
        raise ValueError(f"metadata has a value of the unknown type {kind}")
    inside, length = _number(file, "I"), _count(file)
    if inside in _NUMBERS:
        _bytes(file, length * struct.calcsize(_NUMBERS[inside]))
        return length
    for _ in range(length):
        _value(file, inside, depth + 1)
    return length


def _count(file: BinaryIO) -> int:
    found: int = _number(file, "Q")
    if found > _left(file):  # what is counted has a byte at least
        raise ValueError("a length in its head is beyond its end")
    return found


def _text(file: BinaryIO) -> str:
    return _bytes(file, _count(file)).decode("utf-8", "replace")


def _number(file: BinaryIO, code: str) -> Any:
    return struct.unpack(f"<{code}", _bytes(file, struct.calcsize(f"<{code}")))[0]


def _bytes(file: BinaryIO, count: int) -> bytes:
    if count > _left(file):
        raise ValueError("it ends within its head")
    return file.read(count)


def _left(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size - file.tell()
