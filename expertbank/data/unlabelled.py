"""Rows to answer, from a file or pipe of any format, as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

from expertbank.data.faults import Faults
from expertbank.data.formats import ReadAs, Table, open_table, suffix_of
from expertbank.data.inputs import KEYS, row_of
from expertbank.data.refs import is_pipe, parse_source
from expertbank.data.rows import PAIR_NAMES, RowMaker, leaves_choices, resolve_columns, wanted_of
from expertbank.data.sources import located
from expertbank.data.spec import Columns, SourceSpec, TaskSpec
from expertbank.errors import DataError, InputError
from expertbank.records import Row

EARLY = 1000
"""Rows of a file that are checked before any of them is answered."""
_PLAIN = TaskSpec("rows")
_BY_LINES = (".csv", ".tsv", ".jsonl", ".ndjson")


def no_remark(text: str) -> None:
    """Say nothing."""


def rows_to_answer(
    source: str,
    columns: Columns | None = None,
    read_as: ReadAs | None = None,
    *,
    refuse: bool = False,
    remark: Callable[[str], None] = no_remark,
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
        remark: told what was left out or is not read.

    Raises:
        DataError: no such columns, or bad rows that are to be refused.
        InputError: no such file.
        SourceUnavailableError: it cannot be read.
    """
    found = columns or Columns()
    return opened_rows(
        source, read_as, lambda table: table_rows(table, found, remark), refuse=refuse
    )


def opened_rows(
    source: str,
    read_as: ReadAs | None,
    rows_of: Callable[[Table], Iterator[Row | InputError]],
    *,
    refuse: bool,
    any_name: bool = False,
) -> Iterator[Row | InputError]:
    """Rows of one file or pipe, as ``rows_of`` makes them of its table; the first are read ahead.

    Arguments and errors are those of ``rows_to_answer``; ``any_name`` is that of ``open_table``.
    """
    ref = parse_source(source)
    if ref.scheme not in {"path", "stdin"}:
        raise InputError(f"rows to answer come from a file or standard input, not {source}")
    path = located(ref)
    if path is not None and path.is_dir():
        raise InputError(f"{source} is a folder; give a file of rows")
    try:
        rows = rows_of(open_table(path, ref.name, read_as, whole=False, any_name=any_name))
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


def table_rows(
    table: Table, columns: Columns, remark: Callable[[str], None]
) -> Iterator[Row | InputError]:
    """Rows of a table; for arguments and errors see ``rows_to_answer``."""
    found_columns = _columns(table, columns)
    wanted, maker = set(KEYS), None
    if found_columns is not None:
        maker = RowMaker(_PLAIN, SourceSpec("rows", table.name), found_columns, {})
        wanted = wanted_of(found_columns)
    elif "text_pair" not in table.columns:
        pairs = [name for name in table.columns if name.casefold() in PAIR_NAMES]
        if pairs:
            remark(f"key {pairs[0]!r} is not read; --pair-column {pairs[0]} makes pairs of it")
    if found_columns is not None and leaves_choices(found_columns, table):
        remark("column 'choices' is not read; --choices-column choices makes choices of it")
    for found in table.rows(wanted):
        try:
            if isinstance(found, DataError):
                raise found
            row = maker.row(found) if maker else row_of(found.values, found.origin)
            assert row is not None, "only rows without a label are left out"
            yield row
        except DataError as error:
            yield error
    for text in table.remarks:
        remark(text)


def _columns(table: Table, columns: Columns) -> Columns | None:
    """The columns to read; ``None`` for JSON objects whose keys are those of every interface."""
    if not table.any_key or columns != Columns():
        return resolve_columns(columns, table, labelled=False)
    if "text" in table.columns:
        return None
    try:
        return resolve_columns(columns, table, labelled=False)
    except DataError:
        # The first line may be a bad one: each row then tells what it lacks.
        return None
