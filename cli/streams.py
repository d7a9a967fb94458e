"""Standard input, output and error: what they can carry, and what it means when they fail.

A stream that is missing is replaced before anything else can take its descriptor. What an encoding
cannot carry is escaped. Standard output that takes no more is an ``OutputLost``, once; standard
error that takes no more is given up in silence, as there is nowhere left to say so.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from typing_extensions import Buffer

NARROWEST = 20
"""Columns that a terminal has at the least, whatever it says of itself."""
_UNKNOWN = 80


class OutputLost(Exception):  # noqa: N818 (it is no defect)
    """Standard output took no more: a full disk, a reader that left, a closed descriptor."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(cause.strerror or str(cause))
        self.cause = cause

    @property
    def reader_left(self) -> bool:
        """Whether a pipe's reader ended first (``| head``), which is no fault of anybody's."""
        return isinstance(self.cause, BrokenPipeError)


class _Guard(io.RawIOBase):
    """A raw stream that writes everything, fails once at most, and then drops what it is given."""

    def __init__(self, stream: TextIO, raw: io.RawIOBase, *, tells: bool) -> None:
        self._stream = stream  # whose end would close ``raw``
        self._raw = raw
        self._tells = tells
        self._lost = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Buffer, /) -> int:
        rest = memoryview(data).cast("B")
        whole = len(rest)
        try:
            while rest and not self._lost:
                written = self._raw.write(rest)
                if written is None:  # a full pipe that its other users made non-blocking
                    _wait_for(self._raw.fileno())
                else:
                    rest = rest[written:]
        except OSError as error:
            self._lost = True
            if self._tells:
                raise OutputLost(error) from error
        return whole


def prepare() -> None:
    """Make the three streams of this process ones that can be relied on."""
    # In this order: a descriptor that is opened is the lowest one free, so each gets its own. Each
    # is opened the wrong way round, so that to use a closed stream fails as it would have.
    if sys.stdin is None:
        sys.stdin = open(os.open(os.devnull, os.O_WRONLY), closefd=False)  # noqa: SIM115
    out = sys.stdout or _nowhere(os.O_RDONLY)
    err = sys.stderr or _nowhere(os.O_WRONLY)
    sys.stdout, sys.stderr = _guarded(out, tells=True), _guarded(err, tells=False)


def _nowhere(mode: int) -> TextIO:
    raw = io.FileIO(os.open(os.devnull, mode), "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")


def _guarded(stream: Any, *, tells: bool) -> TextIO:
    unbuffered = not hasattr(stream.buffer, "raw")  # PYTHONUNBUFFERED
    guard: Any = _Guard(stream, stream.buffer if unbuffered else stream.buffer.raw, tells=tells)
    return io.TextIOWrapper(
        guard if unbuffered else io.BufferedWriter(guard),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=unbuffered,
    )


def _wait_for(descriptor: int) -> None:
    import select

    select.select([], [descriptor], [])


def write(text: str) -> None:
    """Write to standard output as it is.

    Raises:
        OutputLost: standard output takes no more.
    """
    sys.stdout.write(text)


def flush() -> None:
    """Have what was written arrive.

    Raises:
        OutputLost: standard output takes no more.
    """
    sys.stdout.flush()


def say(text: str) -> None:
    """Write one line to standard error, if that can be."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def as_json(document: Any, stream: TextIO) -> str:
    """One JSON document that ``stream`` can carry and that stays JSON.

    What UTF-8 cannot carry (half a surrogate pair) is escaped as JSON does; what other encodings
    cannot carry would not be.

    Raises:
        ValueError: a number that is not finite: JSON has no name for it, null stands for none.
    """
    import json

    whole = (stream.encoding or "utf-8").lower().startswith("utf")
    return json.dumps(document, ensure_ascii=not whole, allow_nan=False)


def console(*, stderr: bool = False) -> Console:
    """A console on one of the two streams, as wide as its terminal or ``COLUMNS``, else unwrapped.

    So what goes into a pipe or a file has one line a row, however long, for ``grep`` and the like.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = width_of(stream)
    return Console(
        stderr=stderr,
        soft_wrap=stderr or width is None,
        highlight=False,
        emoji=False,
        width=width or 160,
        height=25,  # of no use here; LINES need not be a number
    )


def width_of(stream: TextIO) -> int | None:
    """Columns that were asked for, or a stream's terminal has; ``None`` where there is neither."""
    named = os.environ.get("COLUMNS", "")
    if named.isascii() and named.isdigit() and int(named):
        return max(int(named), NARROWEST)
    if not stream.isatty():
        return None
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        columns = 0
    return max(columns or _UNKNOWN, NARROWEST)
