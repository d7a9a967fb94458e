"""Package gguf's reader, faster: transformers opens a file three times, to read the same each time.

It reads the head of a file in Python, a number at a time, and a tokenizer's words, scores and
kinds are most of it: with the 262,144 words of Gemma 3, a million numbers and more each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any


@contextmanager
def each_file_read_once() -> Iterator[None]:
    """Let ``gguf.GGUFReader`` read a file once, as long as the context lasts."""
    if find_spec("gguf") is None:
        yield
        return
    import gguf

    own = gguf.GGUFReader
    gguf.GGUFReader = cache(_plain(own))
    try:
        yield
    finally:
        gguf.GGUFReader = own


def _plain(reader: Any) -> Any:
    """The reader over a plain array: numpy's mapped ones do much with every slice."""
    import numpy as np

    class PlainReader(reader):  # type: ignore[misc]  # package gguf is looked up when it is needed
        @property
        def data(self) -> Any:
            return self._plain

        @data.setter
        def data(self, mapped: Any) -> None:
            self._plain = np.asarray(mapped)

    return PlainReader
