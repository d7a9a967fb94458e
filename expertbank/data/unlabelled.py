"""Rows to answer, from a file or pipe of any format, as they come."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from expertbank.data.faults import Faults
from expertbank.data.formats import ReadAs, Table, open_table, suffix_of
from expertbank.data.inputs import KEYS, row_of
from expertbank.data.refs import is_pipe, parse_source
from expertbank.data.rows import RowMaker, resolve_columns, wanted_of
from expertbank.data.sources import located
from expertbank.data.spec import Columns, SourceSpec, TaskSpec
from expertbank.errors import DataError, InputError
from expertbank.records import Row

EARLY = 1000
"""Rows of a file that are checked before any of them is answered."""
_PLAIN = TaskSpec("rows")
_BY_LINES = (".csv", ".tsv", ".jsonl", ".ndjson")


def rows_to_answer(
    source: str,
    columns: Columns | None = None,
    read_as: ReadAs | None = None,
    *,
    refuse: bool = False,
) -> Iterator[Row | InputError]:
    """Rows of a file, a pipe or standard input; in the place of a bad one, what is wrong with it.

    JSON objects with ``text`` (and maybe ``text_pair`` and ``choices``) are taken as they are.
    Otherwise columns are found as for training, so that what was trained on can be answered.

    Args:
        source: a path, or ``-``.
        columns: where columns are named otherwise.
        read_as: separator and encoding where the file does not tell.
        refuse: refuse bad rows among the first ``EARLY`` at once. Of a pipe only the first row is
            read ahead: whoever writes into it may wait for its answer.

    Raises:
        DataError: no such columns, or bad rows that are to be refused.
        InputError: no such file.
        SourceUnavailableError: it cannot be read.
    """
    ref = parse_source(source)
    if ref.scheme not in {"path", "stdin"}:
        raise InputError(f"rows to answer come from a file or standard input, not {source}")
    path = located(ref)
    if path is not None and path.is_dir():
        raise InputError(f"{source} is a folder; give a file of rows")
    try:
        rows = _rows(open_table(path, ref.name, read_as, whole=False), columns or Columns())
        early = list(islice(rows, 1 if path is None or is_pipe(path) else EARLY))
    except DataError as error:
        if error.fault == "no rows":
            return iter(())
        raise
    faults = Faults()
    for row in early:
        if refuse and isinstance(row, DataError):
            faults.note(row)
    faults.refuse()
    return chain(early, rows)


def most_rows(source: str) -> int:
    """How many rows a file has at most, counted by its lines; 0 where only reading tells."""
    path = Path(source)
    if not path.is_file() or suffix_of(path.name) not in _BY_LINES:
        return 0
    with path.open("rb") as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b"")) + 1


def _rows(table: Table, columns: Columns) -> Iterator[Row | InputError]:
    # Where the first line is no object, nothing tells that its keys are others.
    usual = "text" in table.columns or not table.columns
    plain = table.any_key and columns == Columns() and usual
    wanted, maker = set(KEYS), None
    if not plain:
        columns = resolve_columns(columns, table, labelled=False)
        maker = RowMaker(_PLAIN, SourceSpec("rows", table.name), columns, {})
        wanted = wanted_of(columns)
    for found in table.rows(wanted):
        try:
            if isinstance(found, DataError):
                raise found
            row = maker.row(found) if maker else row_of(found.values, found.origin)
            assert row is not None, "only rows without a label are left out"
            yield row
        except DataError as error:
            yield error
