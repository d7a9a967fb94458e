"""Which format a file has, and its table: told by its first bytes and its name, once."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, dropwhile, islice
from pathlib import Path
from typing import IO, Any

from expertbank.data.formats.delimited import SAMPLE, Delimited
from expertbank.data.formats.json_rows import read_array, read_lines, require_whole
from expertbank.data.formats.lines import UTF8, Line, encoding_of, lines_of, text_of
from expertbank.data.formats.parquet import MAGIC, Parquet
from expertbank.data.formats.stream import BROKEN, failure, opened
from expertbank.data.formats.table import FileFacts, Found, Record, Table
from expertbank.data.refs import is_pipe
from expertbank.errors import DataError, InputError
from expertbank.plain import settle
from expertbank.records import ProgressCallback, no_progress

AHEAD = 1000
"""Rows of a file that are read before the first of them is used."""
_CELLS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")
_PLAIN = (*_CELLS, *_JSON, ".parquet")
SUFFIXES = (*_PLAIN, *(f"{suffix}.gz" for suffix in _PLAIN))
"""Names that files of data end with."""
_EXCEL = "an Excel workbook or another zip archive; save the sheet as CSV UTF-8"
_OLD_EXCEL = "an old Excel workbook; save the sheet as CSV UTF-8"
_ARROW = 'an Arrow file; save it as Parquet, in datasets with dataset.to_parquet("train.parquet")'
_BZIP2, _XZ, _ZSTD = (
    f"packed with {packer}; unpack it, or pack it with gzip" for packer in ("bzip2", "xz", "zstd")
)
_FOREIGN = {
    b"PK\x03\x04": _EXCEL,
    b"\xd0\xcf\x11\xe0": _OLD_EXCEL,
    b"ARROW1": _ARROW,
    b"\xff\xff\xff\xff": _ARROW,
    b"FEA1": _ARROW,
    b"SQLite": "a SQLite database; save the table as CSV or JSON lines",
    b"BZh": _BZIP2,
    b"\xfd7zXZ": _XZ,
    b"\x28\xb5\x2f\xfd": _ZSTD,
}
_FOREIGN_NAMES = {
    **dict.fromkeys((".xlsx", ".xlsm", ".ods", ".zip"), _EXCEL),
    ".xls": _OLD_EXCEL,
    **dict.fromkeys((".arrow", ".feather"), _ARROW),
    ".bz2": _BZIP2,
    ".xz": _XZ,
    ".zst": _ZSTD,
}
_BLANK = b"\xef\xbb\xbf \t\r\n"
_SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}


@dataclass(frozen=True, slots=True)
class ReadAs:
    """How text files are to be read; ``None`` tells by the file.

    Attributes:
        separator: what stands between cells: one character, or ``tab``.
        encoding: of the text, by Python's name.
        fallback: encoding to try where a file is not UTF-8.

    Raises:
        InputError: no such encoding, or more than one character.
    """

    separator: str | None = None
    encoding: str | None = None
    fallback: str | None = None

    def __post_init__(self) -> None:
        settle(self, "read_as")
        if self.separator is not None:
            separator = _SEPARATORS.get(self.separator, self.separator)
            if len(separator) != 1 or separator in '"\r\n\0' or separator.isalnum():
                raise InputError(
                    f"a separator is one character between cells, such as ';' or tab; "
                    f"got {self.separator!r}"
                )
            object.__setattr__(self, "separator", separator)
        for name in ("encoding", "fallback"):
            encoding = getattr(self, name)
            if encoding is not None:
                object.__setattr__(self, name, _encoding(encoding))

    def over(self, base: ReadAs) -> ReadAs:
        """This, with ``base`` wherever nothing is said here."""
        return ReadAs(
            self.separator or base.separator,
            self.encoding or base.encoding,
            self.fallback or base.fallback,
        )


def _encoding(name: str) -> str:
    try:
        found = codecs.lookup(name)
        b"a".decode(name)
    except UnicodeDecodeError:
        pass  # of one byte UTF-16 makes nothing
    except (LookupError, ValueError) as error:
        raise InputError(
            f"no text encoding is called {name!r}; try utf-8, cp1252, latin-1 or utf-16"
        ) from error
    return found.name


def suffix_of(name: str) -> str:
    """What a file's name ends with, in lower case: ``.csv``, or ``.csv.gz``."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes[-2:]]
    return "".join(suffixes if suffixes[-1:] == [".gz"] else suffixes[-1:])


def bare_name(name: str) -> str:
    """A file's name without the ending that tells its format; other names as they are."""
    suffix = suffix_of(name)
    return name[: -len(suffix)] if suffix in SUFFIXES else name


def open_table(
    path: Path | None,
    name: str,
    read_as: ReadAs | None = None,
    progress: ProgressCallback = no_progress,
    *,
    whole: bool = True,
    any_name: bool = False,
) -> Table:
    """Open one file or pipe and read as far as its columns.

    What its first bytes tell wins over its name: files are renamed, and pipes have no name.

    Args:
        path: the file; ``None`` for standard input.
        name: what to call it in messages and origins.
        read_as: what is known of its text.
        progress: told how much of the file was read.
        whole: read JSON through for the keys of all its rows. Otherwise those of the first
            ``AHEAD`` rows are the columns, of a pipe those of the first row alone, and rows can be
            used as they come.
        any_name: go by the first bytes alone where the name tells of no known format.

    Raises:
        InputError: the name tells of no known format.
        DataError: the file is of another format, or holds no rows.
        SourceUnavailableError: it cannot be read.
    """
    stack = ExitStack()
    try:
        stream, packed = stack.enter_context(opened(path, name, progress))
        named = _format_of(path, name, any_name=any_name)
        table = _table(stream, named, path, name, read_as or ReadAs(), whole=whole)
    except BROKEN as error:
        stack.close()
        raise failure(error, name) from error
    except BaseException:
        stack.close()
        raise

    def read(wanted: Collection[str]) -> Iterator[Found]:
        with stack:
            yield from _some(table.read(wanted), name)

    return replace(table, read=read, facts=replace(table.facts, compressed=packed))


def _some(rows: Iterator[Found], name: str) -> Iterator[Found]:
    """The rows, of which there must be one."""
    row = None
    for row in rows:
        yield row
    if row is None:
        raise no_rows(name)


def no_rows(name: str) -> DataError:
    """What to say of a file without a row."""
    return DataError(f"{name}:1: the file holds no rows", "no rows")


def _format_of(path: Path | None, name: str, *, any_name: bool) -> str:
    """What a file's name tells of its format, as a suffix; empty where it tells nothing."""
    named = "" if path is None or _nameless(path) else suffix_of(path.name).removesuffix(".gz")
    if named in {"", *_PLAIN}:
        return named
    if not any_name and named in _FOREIGN_NAMES:
        raise InputError(f"{name}: by its name this is {_FOREIGN_NAMES[named]}")
    if not any_name:
        raise InputError(f"{name}: unknown file type; use one of {', '.join(_PLAIN)}, or .gz of it")
    return ""


def _table(
    stream: io.BufferedReader[Any],
    named: str,
    path: Path | None,
    name: str,
    read_as: ReadAs,
    *,
    whole: bool,
) -> Table:
    head = stream.peek(64)[:64]
    if named == ".parquet" or head.startswith(MAGIC):
        return _of_parquet(stream, name)
    foreign = next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None)
    if foreign or not head:
        raise DataError(f"{name}:1: this is {foreign}") if foreign else no_rows(name)
    encoding = encoding_of(head, read_as.encoding)
    # Who writes rows into a pipe one by one may wait for the answer to the first.
    waits = not whole and (path is None or is_pipe(path))
    ahead = None if whole else 1 if waits else AHEAD
    if named not in _CELLS and head.strip(_BLANK)[:1] == b"[":
        # An array is one text, however long its lines are.
        text = text_of(stream.read(), name, read_as.encoding, read_as.fallback)
        return _of_json(read_array(text, name), name, encoding, ahead)
    lines = _filled(_lines(stream, encoding, name, read_as))
    first = next(lines, None)
    if first is None:
        raise no_rows(name)
    lines = chain((first,), lines)
    start = first[1] if isinstance(first[1], str) else ""
    if named in _JSON or (named not in _CELLS and start.lstrip()[:1] in {"{", "["}):
        if named not in _CELLS and start.lstrip()[:1] == "[":
            return _of_json(_array_of(lines, name), name, encoding, ahead)
        require_whole(start, f"{name}:{first[0]}")
        return _of_json(read_lines(lines, name), name, encoding, ahead)
    cells = Delimited(
        lines,
        name,
        read_as.separator,
        _CELLS.get(named, ","),
        start=first[0],
        sample=1 if waits else SAMPLE,
    )
    if not cells.columns:
        raise no_rows(name)
    facts = FileFacts(name, "csv", cells.separator, encoding)
    return Table(facts, cells.columns, cells.rows, remarks=cells.remarks)


def _nameless(path: Path) -> bool:
    """Whether its name tells nothing: a pipe, a descriptor, or a file without a suffix."""
    return is_pipe(path) or path.parts[1:2] in {("dev",), ("proc",)}


def _filled(lines: Iterator[Line]) -> Iterator[Line]:
    """The lines from the first that is not blank."""
    return dropwhile(lambda one: isinstance(one[1], str) and not one[1].strip(), lines)


def _array_of(lines: Iterable[Line], name: str) -> Iterator[Found]:
    """Records of an array that came as lines, where blanks or an encoding hid its first sign."""
    parts = []
    for _, line in lines:
        if isinstance(line, DataError):
            raise line
        parts.append(line)
    yield from read_array("".join(parts), name)


def _lines(stream: IO[bytes], encoding: str, name: str, read_as: ReadAs) -> Iterator[Line]:
    if encoding == UTF8 and read_as.fallback is not None and read_as.encoding is None:
        # Which of two encodings a file has only its last line can tell.
        text = text_of(stream.read(), name, fallback=read_as.fallback)
        return enumerate(io.StringIO(text, newline="\n"), start=1)
    return lines_of(stream, name, encoding)


def _of_parquet(stream: io.BufferedReader[Any], name: str) -> Table:
    # Its columns are listed at its end.
    plain = stream.seekable() and not isinstance(stream.raw, gzip.GzipFile)
    whole: IO[bytes] = stream if plain else io.BytesIO(stream.read())
    file = Parquet(whole, name)
    if not file.count:
        raise no_rows(name)
    return Table(FileFacts(name, "parquet"), file.columns, file.rows, file.class_names)


def _of_json(rows: Iterator[Found], name: str, encoding: str, ahead: int | None) -> Table:
    first = list(islice(rows, ahead))
    columns = dict.fromkeys(key for row in first if isinstance(row, Record) for key in row.values)
    first.reverse()

    def read(wanted: Collection[str]) -> Iterator[Found]:
        # Rows are taken out as they are made: a large file does not stand in memory twice.
        while first:
            yield first.pop()
        yield from rows

    return Table(FileFacts(name, "json", encoding=encoding), tuple(columns), read, ahead=ahead)
