"""Rows to answer, from a file or pipe of any format, as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from expertbank.data.faults import Faults
from expertbank.data.formats import AHEAD, ReadAs, Record, Table, open_table, suffix_of
from expertbank.data.inputs import KEYS, row_of
from expertbank.data.refs import is_pipe, parse_source
from expertbank.data.rows import PAIR_NAMES, RowMaker, leaves_choices, resolve_columns, wanted_of
from expertbank.data.sources import located
from expertbank.data.spec import Columns, SourceSpec, TaskSpec
from expertbank.errors import DataError, InputError
from expertbank.records import Row

_PLAIN = TaskSpec("rows")
_UNNAMED = Columns()
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
    usual: Columns | None = None,
) -> Iterator[Row | InputError]:
    """Rows of a file, a pipe or standard input; in the place of a bad one, what is wrong with it.

    JSON objects with ``text`` (and maybe ``text_pair`` and ``choices``) are taken as they are.
    Otherwise columns are found as for training, so that what was trained on can be answered: of
    JSON by the keys that were seen so far.

    Args:
        source: a path, or ``-``.
        columns: where columns are named otherwise.
        read_as: separator and encoding where the file does not tell.
        refuse: refuse bad rows among the first ``AHEAD`` at once. Of a pipe only the first row is
            read ahead: whoever writes into it may wait for its answer.
        remark: told what was left out or is not read.
        usual: columns of the task that is to answer, for files that have them all.

    Raises:
        DataError: no such columns, or bad rows that are to be refused.
        InputError: no such file.
        SourceUnavailableError: it cannot be read.
    """
    known = _UNNAMED if usual is None else Columns(usual.text, usual.text_pair, usual.choices)

    def rows_of(table: Table) -> Iterator[Row | InputError]:
        return table_rows(table, columns or _UNNAMED, remark, known)

    return opened_rows(source, read_as, rows_of, refuse=refuse)


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
        early = list(islice(rows, 1 if path is None or is_pipe(path) else AHEAD))
    except DataError as error:
        if error.fault == "no rows":
            return iter(())
        raise
    faults = Faults()
    for row in early:
        if refuse and isinstance(row, DataError):
            faults.note(row)
    faults.refuse(advice="--skip-bad leaves such rows out, and names each")
    return chain(early, rows)


def most_rows(source: str) -> int:
    """How many rows a file has at most, counted by its lines; 0 where only reading tells."""
    path = Path(source)
    if not path.is_file() or suffix_of(path.name) not in _BY_LINES:
        return 0
    with path.open("rb") as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b"")) + 1


def table_rows(
    table: Table,
    columns: Columns,
    remark: Callable[[str], None],
    usual: Columns = _UNNAMED,
) -> Iterator[Row | InputError]:
    """Rows of a table; for arguments and errors see ``rows_to_answer``."""
    told: set[str] = set()

    def remark_once(text: str) -> None:
        if text not in told:
            told.add(text)
            remark(text)

    seen = dict.fromkeys(table.columns)
    row_from, wanted = _reader(table, columns, usual, remark_once)
    for found in table.rows(wanted):
        try:
            if isinstance(found, DataError):
                raise found
            if table.ahead is not None and not found.values.keys() <= seen.keys():
                seen.update(dict.fromkeys(found.values))
                known = replace(table, columns=tuple(seen))
                row_from, _ = _reader(known, columns, usual, remark_once)
            yield row_from(found)
        except DataError as error:
            yield error
    for text in table.remarks:
        remark(text)


def _reader(
    table: Table, columns: Columns, usual: Columns, remark: Callable[[str], None]
) -> tuple[Callable[[Record], Row], set[str]]:
    """What makes rows of records by the columns that are known by now, and which it needs.

    Raises:
        DataError: a column that was named is missing, or none has a known name.
    """
    found = _found(table, columns, usual)
    single = "text_pair" not in table.columns if found is None else found.text_pair is None
    if usual.text_pair is not None and single and table.ahead != 1:  # of a pipe, more may come
        remark(
            f"read as single texts, and the task was trained on pairs, of columns {usual.text!r} "
            f"and {usual.text_pair!r}; --pair-column names the second text"
        )
    if found is None:
        pairs = [name for name in table.columns if name.casefold() in PAIR_NAMES]
        if pairs and "text_pair" not in table.columns:
            remark(f"key {pairs[0]!r} is not read; --pair-column {pairs[0]} makes pairs of it")
        return (lambda record: row_of(record.values, record.origin)), set(KEYS)
    if leaves_choices(found, table):
        remark("column 'choices' is not read; --choices-column choices makes choices of it")
    if found.text_pair not in {None, columns.text_pair, usual.text_pair}:
        remark(
            f"read as pairs, of columns {found.text!r} and {found.text_pair!r}; "
            f"--text-column {found.text} reads no second text"
        )
    maker = RowMaker(_PLAIN, SourceSpec("rows", table.name), found, {})

    def row_from(record: Record) -> Row:
        row = maker.row(record)
        assert row is not None, "only rows without a label are left out"
        return row

    return row_from, wanted_of(found)


def _found(table: Table, columns: Columns, usual: Columns) -> Columns | None:
    """The columns to read; ``None`` for JSON objects whose keys are those of every interface."""
    as_json, unnamed = table.ahead is not None, columns == _UNNAMED
    if as_json and (not table.columns or (unnamed and "text" in table.columns)):
        return None
    there = set(table.columns)
    if unnamed and usual != _UNNAMED and wanted_of(usual) <= there:
        return resolve_columns(usual, table, labelled=False)
    if table.ahead == 1:
        # Of a pipe: what the user named, this row may do without and the next one bring.
        here = tuple(name for name in columns.choices if name in there)
        pair = columns.text_pair if columns.text_pair in there else None
        left = replace(columns, text_pair=pair, choices=here)
        found = resolve_columns(left, table, labelled=False)
        return found if columns.text_pair in {None, pair} else replace(found, text_pair=None)
    try:
        return resolve_columns(columns, table, labelled=False)
    except DataError:
        if as_json and unnamed:
            return None  # each row then tells what it lacks
        raise
