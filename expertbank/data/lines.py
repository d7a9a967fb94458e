"""Text files as lines: one line in memory at a time, each checked before it is read further."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from expertbank.errors import DataError, SourceUnavailableError
from expertbank.texts import LONGEST

_BOM = b"\xef\xbb\xbf"


def lines_of(
    path: Path, name: str, encoding_fallback: str | None = None
) -> Iterator[tuple[int, str]]:
    """Lines of a file with their numbers and ends, as they stand between line feeds.

    Args:
        path: the file.
        name: what to call it in messages.
        encoding_fallback: encoding of the whole file if it is not UTF-8.

    Raises:
        DataError: NUL bytes, bytes that the encoding does not allow, or a line of more than
            ``LONGEST`` bytes, of which no more is read.
        SourceUnavailableError: the file cannot be read.
    """
    if encoding_fallback is not None:
        # Which of two encodings a file has only its last line can tell.
        text = io.StringIO(read_text(path, name, encoding_fallback), newline="\n")
        yield from enumerate(text, start=1)
        return
    try:
        with path.open("rb") as file:
            number = 0
            while data := file.readline(LONGEST + 1):
                number += 1
                yield number, decode(data, name, line=number)
    except OSError as error:
        raise SourceUnavailableError(f"cannot read {name}: {error.strerror or error}") from error


def bounded_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines of a stream, of a line of more than ``LONGEST`` bytes only the first ``LONGEST + 1``.

    ``decode`` then refuses that line by its length, and the next line is the next line.
    """
    while line := stream.readline(LONGEST + 1):
        yield line
        while len(line) > LONGEST and not line.endswith(b"\n"):
            line = stream.readline(LONGEST + 1)


def read_text(path: Path, name: str, encoding_fallback: str | None = None) -> str:
    """Text of a whole file: UTF-8 with or without a byte order mark, else the fallback.

    Raises:
        DataError: NUL bytes, or bytes that the encoding does not allow.
        SourceUnavailableError: the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceUnavailableError(f"cannot read {name}: {error.strerror or error}") from error
    return _decode(data, name, encoding_fallback, 1)


def decode(data: bytes, name: str, line: int = 1) -> str:
    """Text of one line, the ``line``-th of ``name``; the first may start with a byte order mark.

    Raises:
        DataError: more than ``LONGEST`` bytes, NUL bytes, or bytes that are not UTF-8.
    """
    if len(data) > LONGEST:
        raise DataError(
            f"{name}:{line}: a line of more than {LONGEST:,} bytes; split or remove the row"
        )
    return _decode(data, name, None, line)


def _decode(data: bytes, name: str, encoding_fallback: str | None, line: int) -> str:
    nul = data.find(b"\0")
    if nul >= 0:
        at = line + data.count(b"\n", 0, nul)
        raise DataError(f"{name}:{at}: NUL byte; save the file as plain UTF-8 text")
    if line == 1 and data.startswith(_BOM):
        data = data[len(_BOM) :]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = line + data.count(b"\n", 0, error.start)
        message = f"{name}:{at}: not valid UTF-8; save the file as UTF-8"
        if encoding_fallback is None:
            raise DataError(message) from error
        try:
            return data.decode(encoding_fallback)
        except (UnicodeDecodeError, LookupError) as second:
            raise DataError(f"{message} (nor is it {encoding_fallback})") from second
