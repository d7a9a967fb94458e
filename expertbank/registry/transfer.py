"""All rows of one registry into another, whatever databases keep them: the same bank elsewhere.

Values are taken as the databases hold them, numbers of rows included, so that lineage stays what
it is. Everything happens in one transaction of the target, which is compared row by row with the
source before it is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import zip_longest
from typing import Any

from sqlalchemy import Connection, Table, column, delete, func, insert, select, table
from sqlalchemy.orm import Session

from expertbank.errors import ExistsError, IntegrityError, StaleError
from expertbank.registry import queries
from expertbank.registry.session import read
from expertbank.registry.sql import SqlRegistry
from expertbank.registry.tables import Base

BATCH = 1000
"""Rows that are under way at once."""
HISTORY = ("runs", "experts", "routers", "evaluations", "alias_events", "exports")
"""Tables that only grow: what they hold tells an earlier state of a bank from one that went on."""
TABLES = tuple(one.name for one in Base.metadata.sorted_tables)
"""All tables, those first that others refer to."""
_OWN = {"backbones": ("store",)}
"""Columns that belong to the place and not to the bank."""

Row = tuple[Any, ...]


def copy_rows(
    source: SqlRegistry,
    target: SqlRegistry,
    store: str | None,
    files: Collection[str],
    done: Callable[[int], None],
) -> int:
    """Make the target the bank that the source is, or an earlier state of it the present one.

    Args:
        source: read in one consistent view.
        target: a registry without a backbone, or an earlier state of the same bank.
        store: URL of the target's store, recorded there.
        files: digests of what that store holds.
        done: told how many rows are in.

    Returns:
        The number of rows.

    Raises:
        ExistsError: another bank is there, or this one went on by itself.
        StaleError: the source names other files; nothing was written.
        IntegrityError: what was written is not what was read; nothing was committed.
    """

    def promise(session: Session) -> int:
        into = session.connection()
        with read(source.engine) as reading:
            out = reading.connection()
            if set(queries.live_digests(reading)) - set(files):
                raise StaleError(f"{source.where} grew while it was copied; run it again")
            _require_earlier(reading, session, target)
            target.thaw(into)
            for one in reversed(Base.metadata.sorted_tables):
                into.execute(delete(_plain(one)))
            count = 0
            for one in Base.metadata.sorted_tables:
                for rows in _batches(out, one):
                    into.execute(insert(_plain(one)), _placed(one, rows, store))
                    count += len(rows)
                    done(count)
            for one in Base.metadata.sorted_tables:
                _require_equal(one, out, into)
            target.freeze(into)
            return count

    return target.transact(promise)


def differs(source: SqlRegistry, target: SqlRegistry) -> bool:
    """Whether any row of the two is not the same."""
    with read(source.engine) as reading, read(target.engine) as other:
        out, into = reading.connection(), other.connection()
        return any(
            ours != theirs
            for one in Base.metadata.sorted_tables
            for ours, theirs in zip_longest(_rows(out, one), _rows(into, one))
        )


def _require_earlier(reading: Session, session: Session, target: SqlRegistry) -> None:
    if queries.backbone(session) is None:
        return
    where = target.where
    if queries.bank_id(session) != queries.bank_id(reading):
        raise ExistsError(f"{where} holds another bank; name a destination that is empty")
    for name in HISTORY:
        one = Base.metadata.tables[name]
        there = dict(_keyed(reading.connection(), one))
        for key, row in _keyed(session.connection(), one):
            if there.get(key) != row:
                raise ExistsError(
                    f"{where} holds this bank, but it went on there by itself (table {name}, row "
                    f"{key}); name a destination that is empty"
                )


def _require_equal(one: Table, out: Connection, into: Connection) -> None:
    for ours, theirs in zip_longest(_rows(out, one), _rows(into, one)):
        if ours != theirs:
            raise IntegrityError(
                f"a row of {one.name} is not the same after it was copied ({ours} and {theirs}); "
                "nothing was committed: run it again, and report it if it happens again"
            )


def _plain(one: Table) -> Any:
    """The table without types: values pass as they are."""
    return table(one.name, *(column(each.name) for each in one.columns))


def _batches(connection: Connection, one: Table) -> Iterator[list[Row]]:
    plain = _plain(one)
    keys = [plain.c[each.name] for each in one.primary_key.columns]
    query = select(plain).order_by(*keys).execution_options(yield_per=BATCH)
    for rows in connection.execute(query).partitions():
        yield [tuple(row) for row in rows]


def _rows(connection: Connection, one: Table) -> Iterator[Row]:
    """Every row in the order of its key, without what belongs to the place."""
    own = [place for place, each in enumerate(one.columns) if each.name in _OWN.get(one.name, ())]
    for rows in _batches(connection, one):
        for row in rows:
            yield tuple(value for place, value in enumerate(row) if place not in own)


def _keyed(connection: Connection, one: Table) -> Iterator[tuple[object, Row]]:
    for row in _rows(connection, one):
        yield row[0], row


def _placed(one: Table, rows: list[Row], store: str | None) -> list[dict[str, Any]]:
    names = [each.name for each in one.columns]
    found = [dict(zip(names, row, strict=True)) for row in rows]
    if one.name == "backbones":
        found = [{**values, "store": store} for values in found]
    return found


def greatest_numbers(connection: Connection) -> dict[str, int]:
    """The greatest number that each table has given to a row, by table; 0 where it has none."""
    found = {}
    for one in Base.metadata.sorted_tables:
        if "id" in one.columns and one.primary_key.columns.keys() == ["id"]:
            found[one.name] = int(connection.scalar(select(func.max(one.c.id))) or 0)
    return found
