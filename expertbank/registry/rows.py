"""Records to rows and rows to records, field by field of the same name.

What record and table share is said in those two places only. What differs is named where a
view or a row is made: an expert's ``task@version`` for its number, a run's number for a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import starmap
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import (
    ColumnElement,
    Delete,
    Select,
    SQLColumnExpression,
    Update,
    insert,
    inspect,
    select,
)
from sqlalchemy.orm import Session

from expertbank.clock import now
from expertbank.registry.tables import Base

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")
B = TypeVar("B", bound=Base)


@dataclass(frozen=True, slots=True)
class View(Generic[R]):
    """A kind of record, and the query whose columns are its fields in their order.

    Columns and never table objects: thousands of rows are read without SQLAlchemy's identity
    map, several times faster.
    """

    record: type[R]
    query: Select[Any]

    def all(self, session: Session, *conditions: ColumnElement[bool]) -> tuple[R, ...]:
        """The records for which every condition holds, in the query's order."""
        return tuple(starmap(self.record, session.execute(self.query.where(*conditions))))

    def first(self, session: Session, *conditions: ColumnElement[bool]) -> R | None:
        """The first of them, if there is any."""
        row = session.execute(self.query.where(*conditions).limit(1)).first()
        return None if row is None else self.record(*row)


def columns(
    record: type[R], table: type[Base], **elsewhere: SQLColumnExpression[Any]
) -> Select[Any]:
    """A query for the fields of ``record``: columns of ``table``, but those named ``elsewhere``."""
    names = [field.name for field in fields(record)]
    asked = [elsewhere[name] if name in elsewhere else getattr(table, name) for name in names]
    return select(*asked).select_from(table)


def values(record: DataclassInstance, table: type[Base], **own: Any) -> dict[str, Any]:
    """What the columns of ``table`` hold of ``record``.

    Args:
        record: its fields are taken by name; its ``id`` is left out, the database gives one. A
            record without time gets the present one.
        table: fields that it lacks are left out.
        own: what the table holds of its own, or otherwise than the record.
    """
    found = {name: getattr(record, name) for name in _shared(type(record), table)} | own
    if found.get("created_at") == "":
        found["created_at"] = now()
    return found


def add(session: Session, record: DataclassInstance, table: type[B], **own: Any) -> B:
    """Insert one row, and give it with the number that the database gave it."""
    row = table(**values(record, table, **own))
    session.add(row)
    session.flush()
    return row


def add_all(session: Session, table: type[Base], rows: Iterable[dict[str, Any]]) -> None:
    """Insert many rows, given as column values, in one statement."""
    if found := list(rows):
        session.execute(insert(table), found)


def for_each(session: Session, statement: Delete | Update, values: Sequence[object]) -> None:
    """Run ``statement`` with its parameter ``each`` bound to one value after the other.

    Not one ``IN`` over all of them: databases limit its length.
    """
    if values:
        session.connection().execute(statement, [{"each": value} for value in values])


@cache
def _shared(record: type[DataclassInstance], table: type[Base]) -> tuple[str, ...]:
    kept = set(inspect(table).column_attrs.keys()) - {"id"}
    return tuple(field.name for field in fields(record) if field.name in kept)
