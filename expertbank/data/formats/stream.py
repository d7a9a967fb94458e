"""Files, pipes and standard input as one kind of stream, told how far it is and freed of gzip."""

from __future__ import annotations

import gzip
import io
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from expertbank.errors import DataError, InputError, SourceUnavailableError
from expertbank.records import ProgressCallback, ProgressEvent

_BUFFER = 1 << 20
_GZIP = b"\x1f\x8b"


class _Watched(io.RawIOBase):
    """A stream that tells how much of it was read."""

    def __init__(self, source: IO[bytes], name: str, total: int, progress: ProgressCallback):
        self._source = source
        self._tell: Callable[[int], None] = lambda done: progress(
            ProgressEvent(f"reading {name}", done >> 10, total >> 10, "KiB")
        )
        self._total = total
        self._done = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._source.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        return self._source.tell()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # what BufferedReader brings
        # One read of what is there: whoever pipes rows in one by one gets answers one by one.
        read1 = getattr(self._source, "read1", self._source.read)
        data: bytes = read1(len(buffer))
        buffer[: len(data)] = data
        self._done += len(data)
        if self._total:
            self._tell(min(self._done, self._total))
        return len(data)


@contextmanager
def opened(
    path: Path | None, name: str, progress: ProgressCallback
) -> Iterator[tuple[io.BufferedReader[Any], bool]]:
    """The bytes of a file or pipe, ``None`` for standard input, and whether gzip was taken off.

    Raises:
        InputError: a device or a socket, or standard input that is closed.
        SourceUnavailableError: it cannot be opened.
    """
    source, total = _source(path, name)
    try:
        plain = io.BufferedReader(_Watched(source, name, total, progress), _BUFFER)
        compressed = plain.peek(2)[:2] == _GZIP
        if not compressed:
            yield plain, False
        else:
            with gzip.open(plain) as unpacked:
                yield io.BufferedReader(unpacked, _BUFFER), True
    except OSError as error:
        raise failure(error, name) from error
    finally:
        if path is not None:
            source.close()


def failure(error: Exception, name: str, line: int = 1) -> DataError | SourceUnavailableError:
    """What to say of a stream that broke off at ``line``."""
    if isinstance(error, (gzip.BadGzipFile, EOFError, zlib.error)):
        return DataError(f"{name}:{line}: damaged gzip file ({error}); pack it again", "damaged")
    reason = getattr(error, "strerror", None) or error
    return SourceUnavailableError(f"cannot read {name}: {reason}")


BROKEN = (OSError, EOFError, zlib.error)
"""What reading a stream may raise."""


def _source(path: Path | None, name: str) -> tuple[IO[bytes], int]:
    if path is None:
        if sys.stdin is None or sys.stdin.closed:
            raise InputError("standard input is closed; give a file")
        return sys.stdin.buffer, 0
    try:
        mode = path.stat()
        if stat.S_ISCHR(mode.st_mode) or stat.S_ISBLK(mode.st_mode) or stat.S_ISSOCK(mode.st_mode):
            raise InputError(f"{name} is a device or a socket; give a file, a folder or a pipe")
        # Unbuffered would be the wrong kind of object for a pipe that gives a little at a time.
        return path.open("rb"), mode.st_size if stat.S_ISREG(mode.st_mode) else 0
    except OSError as error:
        raise failure(error, name) from error
