"""Rows that were asked: a file of rows, or the log of a server that may hold texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from expertbank.data.formats import ReadAs, Record, Table
from expertbank.data.inputs import row_of
from expertbank.data.spec import Columns
from expertbank.data.unlabelled import no_remark, opened_rows, table_rows
from expertbank.errors import DataError, InputError
from expertbank.records import Row

LOG_KEYS = frozenset({"at", "method", "route", "status", "rows", "unknown"})
"""Keys of every line of a server's log, see ``expertbank.http.logs``."""
STARTED = frozenset({"serving", "models", "router"})
"""Keys of the line before them, which ``serve --json`` writes when it is ready."""
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

    Requests whose texts do not stand in a log are left out; how many is remarked on at its end.

    Raises:
        InputError: as there, or a log that holds no texts.
        DataError: as there.
        SourceUnavailableError: as there.
    """
    found: list[ReadFrom] = ["rows"]

    def rows_of(table: Table) -> Iterator[Row | InputError]:
        keys = set(table.columns)
        if (keys >= LOG_KEYS or keys >= STARTED) and "text" not in keys:
            found[0] = "log"
            return _log_rows(table, remark)
        return table_rows(table, columns or Columns(), remark)

    rows = opened_rows(source, read_as, rows_of, refuse=refuse, any_name=True)
    return Asked(rows, found[0])


def _log_rows(table: Table, remark: Callable[[str], None]) -> Iterator[Row | InputError]:
    told = silent = 0
    for line in table.rows(LOG_KEYS):
        if isinstance(line, DataError):
            yield line
            continue
        if line.values.get("texts") is None:
            silent += bool(line.values.get("rows"))
            continue
        told += 1
        try:
            rows = _asked(line)
        except (TypeError, ValueError):
            yield DataError(f"{line.origin}: not a line of a server's log", "log line")
            continue
        for values in rows:
            try:
                yield row_of(values, line.origin)
            except DataError as error:
                yield error.kept()
    if silent and not told:
        raise InputError(
            f"{table.name} is a server's log without texts: it cannot be seen what was asked. "
            "Serve with: expertbank serve --log-texts, and read the log of that; or give a file "
            "of rows"
        )
    if silent:
        many = "1 request was" if silent == 1 else f"{silent:,} requests were"
        remark(f"{many} left out: what was asked does not stand in the log")
    for text in table.remarks:
        remark(text)


def _asked(line: Record) -> list[dict[str, Any]]:
    """The rows of one request, see ``expertbank.http.seen``.

    Raises:
        TypeError: something in the line is not what the server writes.
        ValueError: likewise.
    """
    texts = line.values["texts"]
    if not isinstance(texts, list):
        raise TypeError
    found, place = [], 0
    for pair, choices in line.values.get("parts", [(0, 0)] * len(texts)):
        if pair not in {0, 1} or choices < 0 or place + pair + choices >= len(texts):
            raise ValueError
        own = texts[place : place + 1 + pair + choices]
        found.append(
            {
                "text": own[0],
                "text_pair": own[1] if pair else None,
                "choices": own[1 + pair :] or None,
            }
        )
        place += len(own)
    if place != len(texts) or len(found) != line.values.get("rows"):
        raise ValueError
    return found
