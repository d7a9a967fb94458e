"""Readers: one file in, one table of raw records out, or an error that names the line.

Every reader takes all of a file or nothing, and holds one line beside what it has read. CSV cells
stay text, so labels such as ``None``, ``NA`` and ``007`` keep their spelling.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expertbank.data.lines import lines_of
from expertbank.errors import DataError
from expertbank.texts import LONGEST

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class Record:
    """One raw example and where it stands (``file:line``)."""

    values: Mapping[str, Any]
    origin: str


@dataclass(frozen=True, slots=True)
class Table:
    """The records of one file, with its columns in the order they first appear.

    Making rows of them takes them out (``rows_of``): a large file does not stand in memory twice.
    """

    name: str
    columns: tuple[str, ...]
    records: list[Record]


def read_table(path: Path, name: str, encoding_fallback: str | None = None) -> Table:
    """Read one data file by its suffix.

    Args:
        path: the file.
        name: what to call it in messages and origins.
        encoding_fallback: encoding to use if the file is not UTF-8.

    Raises:
        DataError: the file is malformed or holds no rows.
        SourceUnavailableError: the file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        table = _read_parquet(path, name)
    else:
        lines = lines_of(path, name, encoding_fallback)
        if suffix == ".jsonl":
            table = _read_jsonl(lines, name)
        elif suffix in {".csv", ".tsv"}:
            table = _read_csv(lines, name, "\t" if suffix == ".tsv" else ",")
        else:
            raise DataError(f"{name}:1: unknown file type; use {', '.join(SUFFIXES)}")
    if not table.records:
        raise DataError(f"{name}:1: the file holds no rows")
    return table


def _read_csv(lines: Iterator[tuple[int, str]], name: str, delimiter: str) -> Table:
    """Comma or tab separated text with a header; cells may be quoted and span lines."""
    records: list[Record] = []
    header: list[str] = []
    start = 1
    with _cells_up_to(LONGEST):
        # Strict: an open quote would otherwise swallow the rest of the file as one cell.
        reader = csv.reader(_physical(lines), delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                origin, start = f"{name}:{start}", reader.line_num + 1
                if not cells:
                    continue
                if not header:
                    header = cells
                    repeated = sorted({cell for cell in cells if cells.count(cell) > 1})
                    if repeated:
                        raise DataError(f"{origin}: columns are repeated: {repeated}")
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{origin}: {len(cells)} cells where the header has {len(header)}; "
                        "quote cells that hold the separator or a line break"
                    )
                records.append(Record(dict(zip(header, cells, strict=True)), origin))
        except csv.Error as error:
            raise DataError(
                f"{name}:{start}: malformed row ({error}); a cell with a quote character must be "
                "quoted and its quotes doubled"
            ) from error
    return Table(name, tuple(header), records)


def _physical(lines: Iterator[tuple[int, str]]) -> Iterator[str]:
    """Lines as CSV counts them: a carriage return alone ends one too."""
    for _, line in lines:
        if "\r" in line.removesuffix("\n").removesuffix("\r"):
            yield from io.StringIO(line, newline="")
        else:
            yield line


@contextmanager
def _cells_up_to(length: int) -> Iterator[None]:
    """Let cells be of this length; the limit is the module's, so put it back."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, length))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_jsonl(lines: Iterator[tuple[int, str]], name: str) -> Table:
    """One JSON object a line; columns are the keys of all lines."""
    records: list[Record] = []
    columns: dict[str, None] = {}
    for number, line in lines:
        if not line.strip():
            continue
        values = parse_object(line, f"{name}:{number}")
        columns.update(dict.fromkeys(values))
        records.append(Record(values, f"{name}:{number}"))
    return Table(name, tuple(columns), records)


def parse_object(line: str, origin: str) -> dict[str, Any]:
    """The JSON object on one line.

    Raises:
        DataError: not JSON, or JSON of another kind.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{origin}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(
            f'{origin}: expected a JSON object such as {{"text": …}}, got {type(value).__name__}'
        )
    return value


def _read_parquet(path: Path, name: str) -> Table:
    """Parquet through ``datasets``, in a cache that is gone afterwards.

    The library would otherwise leave a copy of the user's rows in its own cache.
    """
    import datasets

    with tempfile.TemporaryDirectory(prefix="expertbank-") as cache, quiet_datasets():
        try:
            # Without a batch size it takes that of the first row group, which may be empty.
            data = datasets.Dataset.from_parquet(str(path), cache_dir=cache, batch_size=1024)
            columns = tuple(data.column_names)
            rows = data.to_list()
        except Exception as error:
            # The library raises many kinds for bad files and wraps the telling one.
            cause = error.__cause__ or error
            if "no data" in str(cause):
                return Table(name, (), [])
            raise DataError(f"{name}:1: not readable as Parquet: {cause}") from error
        # The rows are plain Python values now; drop the memory map before its folder goes.
        del data
    return Table(name, columns, records_of(rows, name))


def records_of(rows: list[dict[str, Any]], name: str) -> list[Record]:
    """Records of rows that have no line numbers; the row's number from 1 takes their place."""
    return [Record(row, f"{name}:{number}") for number, row in enumerate(rows, start=1)]


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """No progress bars or log lines from ``datasets`` meanwhile: errors here say it all."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    verbosity = datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if shown:
            datasets.enable_progress_bars()
