"""Bytes as lines of text: one line in memory at a time, each checked before it is read further."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from expertbank.data.formats.stream import BROKEN, failure
from expertbank.errors import DataError
from expertbank.texts import LONGEST

UTF8 = "utf-8"
_BOM = b"\xef\xbb\xbf"
# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)

Line = tuple[int, "str | DataError"]
"""A line's number from 1 and its text with its end, or what is wrong with it."""


def encoding_of(head: bytes, wished: str | None) -> str:
    """The encoding of text that starts with ``head``: as wished, by its mark, else UTF-8."""
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if wished in {None, "utf-16", "utf-32"}:
        # A name without an order of bytes leaves that to the mark.
        return marked or {None: UTF8, "utf-16": "utf-16-le", "utf-32": "utf-32-le"}[wished]
    return wished or UTF8


def lines_of(stream: IO[bytes], name: str, encoding: str = UTF8) -> Iterator[Line]:
    """Lines of a stream, as they stand between line feeds.

    What is wrong with a line stands in its place, and the next line is the next line: bytes that
    the encoding does not allow, NUL bytes, more than ``LONGEST`` bytes.

    Raises:
        DataError: the stream is damaged.
        SourceUnavailableError: it cannot be read on.
    """
    number = 0
    try:
        if encoding.replace("_", "-").startswith(("utf-16", "utf-32")):
            yield from _wide(stream, name, encoding)
            return
        while data := stream.readline(LONGEST + 1):
            number += 1
            yield number, _line(data, name, number, encoding)
            while len(data) > LONGEST and not data.endswith(b"\n"):
                data = stream.readline(LONGEST + 1)
    except BROKEN as error:
        raise failure(error, name, number + 1) from error


def _line(data: bytes, name: str, number: int, encoding: str) -> str | DataError:
    if len(data) > LONGEST:
        return _too_long(name, number)
    try:
        return decode(data, name, encoding, line=number)
    except DataError as error:
        return error.kept()


def _too_long(name: str, number: int) -> DataError:
    return DataError(
        f"{name}:{number}: a line of more than {LONGEST:,} bytes; split or remove the row",
        "too long",
    )


def _wide(stream: IO[bytes], name: str, encoding: str) -> Iterator[Line]:
    """Lines of an encoding in which a character is two or four bytes."""
    data, feed, start, number = stream.read(), "\n".encode(encoding), 0, 0
    while start < len(data):
        number += 1
        end = data.find(feed, start)
        while end >= 0 and (end - start) % len(feed):
            end = data.find(feed, end + 1)
        end = len(data) if end < 0 else end + len(feed)
        yield number, _line(data[start:end], name, number, encoding)
        start = end


def text_of(data: bytes, name: str, wished: str | None = None, fallback: str | None = None) -> str:
    """Text of a whole file.

    Args:
        data: its bytes.
        name: what to call it in messages.
        wished: its encoding; ``None``: by its mark, else UTF-8.
        fallback: encoding to try if it is not UTF-8.

    Raises:
        DataError: NUL bytes, or bytes that the encoding does not allow.
    """
    encoding = encoding_of(data, wished)
    try:
        text = decode(data, name, encoding)
    except DataError:
        if fallback is None or wished is not None:
            raise
        text = decode(data, name, fallback)
    return text


def decode(data: bytes, name: str, encoding: str = UTF8, line: int = 1) -> str:
    """Text of bytes that begin at ``line`` of ``name``; the first may start with a mark.

    Raises:
        DataError: NUL bytes, or bytes that the encoding does not allow.
    """
    if line == 1 and encoding == UTF8 and data.startswith(_BOM):
        data = data[len(_BOM) :]
    try:
        text = data.decode(encoding)
    except UnicodeError as error:
        # Not every encoding says where its bytes are wrong.
        at = line + data.count(b"\n", 0, getattr(error, "start", 0))
        raise _undecodable(name, at, encoding, error) from error
    nul = text.find("\0")
    if nul >= 0:
        at = line + text.count("\n", 0, nul)
        raise DataError(f"{name}:{at}: NUL byte; save the file as plain UTF-8 text", "NUL")
    return text.removeprefix("\ufeff") if line == 1 else text


def _undecodable(name: str, line: int, encoding: str, error: UnicodeError) -> DataError:
    if encoding != UTF8:
        message = f"{name}:{line}: not valid {encoding} ({error}); name another --encoding"
    else:
        message = (
            f"{name}:{line}: not valid UTF-8; save the file as UTF-8, or name its encoding, such "
            "as --encoding cp1252 for what Excel saves on Windows"
        )
    return DataError(message, "encoding")
