"""Whether the database still holds what the tables promise, whoever had a hand in it."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, ForeignKeyConstraint, and_, func, select, text

from expertbank.registry.tables import Base


def complaints(connection: Connection) -> Iterator[str]:
    """Constraints that are gone or were never checked, and rows that refer to nothing."""
    yield from _constraints(connection)
    yield from _orphans(connection)


def _constraints(connection: Connection) -> Iterator[str]:
    query = text(
        "SELECT conname, convalidated FROM pg_constraint "
        "WHERE connamespace = current_schema()::regnamespace"
    )
    found = {row[0]: bool(row[1]) for row in connection.execute(query)}
    for table in Base.metadata.sorted_tables:
        for constraint in sorted(table.constraints, key=lambda one: str(one.name)):
            name = str(constraint.name)
            if name not in found:
                yield f"constraint {name} of {table.name} is missing"
            elif not found[name]:
                yield f"constraint {name} of {table.name} was never checked (NOT VALID)"


def _orphans(connection: Connection) -> Iterator[str]:
    # A superuser can switch the triggers off that foreign keys are made of.
    for table in Base.metadata.sorted_tables:
        for key in table.constraints:
            if not isinstance(key, ForeignKeyConstraint):
                continue
            there = key.referred_table.alias()
            same = and_(*(one.parent == there.c[one.column.name] for one in key.elements))
            set_ = and_(*(one.parent.is_not(None) for one in key.elements))
            query = (
                select(func.count())
                .select_from(table.outerjoin(there, same))
                .where(set_, there.c[key.elements[0].column.name].is_(None))
            )
            missing = connection.scalar(query)
            if missing:
                referred = key.referred_table.name
                yield f"{missing} rows of {table.name} refer to a missing {referred}"
