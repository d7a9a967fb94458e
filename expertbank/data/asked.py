"""Rows that were asked: a file of rows, or the log of a server that may hold texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from expertbank.data.formats import ReadAs, Table
from expertbank.data.inputs import row_of
from expertbank.data.spec import Columns
from expertbank.data.unlabelled import no_remark, opened_rows, table_rows
from expertbank.errors import DataError, InputError
from expertbank.records import Row

LOG_KEYS = frozenset({"at", "method", "route", "status", "rows", "unknown"})
"""Keys that every line of a server's log has, see ``expertbank.http.logs``."""
ReadFrom = Literal["rows", "log"]


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows, and what they were read from.

    Attributes:
        rows: in their order; in the place of a bad one, what is wrong with it.
        read_from: ``rows`` of a file or pipe of rows, ``log`` of a server's log.
    """

    rows: Iterator[Row | InputError]
    read_from: ReadFrom


def asked_rows(
    source: str,
    columns: Columns | None = None,
    read_as: ReadAs | None = None,
    *,
    refuse: bool = False,
    remark: Callable[[str], None] = no_remark,
) -> Asked:
    """As ``rows_to_answer``, but the file may also be a server's log, and have any name.

    Of a log, only requests of single texts can be read: which texts of a pair or of choices belong
    together does not stand in it. How many others there were is remarked on at its end.

    Raises:
        InputError: as there, or a log that holds no texts.
        DataError: as there.
        SourceUnavailableError: as there.
    """
    found: list[ReadFrom] = ["rows"]

    def rows_of(table: Table) -> Iterator[Row | InputError]:
        if set(table.columns) >= LOG_KEYS and "text" not in table.columns:
            found[0] = "log"
            return _log_rows(table, remark)
        return table_rows(table, columns or Columns(), remark)

    rows = opened_rows(source, read_as, rows_of, refuse=refuse, any_name=True)
    return Asked(rows, found[0])


def _log_rows(table: Table, remark: Callable[[str], None]) -> Iterator[Row | InputError]:
    told = silent = several = 0
    for line in table.rows(LOG_KEYS):
        if isinstance(line, DataError):
            yield line
            continue
        texts, rows = line.values.get("texts"), line.values.get("rows")
        if texts is None:
            silent += bool(rows)
        elif not isinstance(texts, list) or not isinstance(rows, int):
            yield DataError(f"{line.origin}: not a line of a server's log", "log line")
        elif len(texts) != rows:
            several += 1
        else:
            told += 1
            for text in texts:
                try:
                    yield row_of({"text": text}, line.origin)
                except DataError as error:
                    yield error.kept()
    if silent and not told + several:
        raise InputError(
            f"{table.name} is a server's log without texts: it cannot be seen what was asked. "
            "Serve with: expertbank serve --log-texts, and read the log of that; or give a file "
            "of rows"
        )
    if silent:
        remark(f"{silent:,} requests were left out: their lines hold no texts")
    if several:
        remark(
            f"{several:,} requests of pairs or choices were left out: a log does not tell which "
            "texts belong together; give such rows as a file"
        )
    for text in table.remarks:
        remark(text)
