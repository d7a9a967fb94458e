"""An open registry in a SQLite file: what SQL shares, and the care that a file needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from expertbank.errors import ExpertBankError, LockedError, ReadOnlyError
from expertbank.records import Problem
from expertbank.registry import health, schema
from expertbank.registry.session import read
from expertbank.registry.sql import SqlRegistry
from expertbank.registry.sqlite import triggers
from expertbank.registry.sqlite.connection import probe
from expertbank.registry.sqlite.copying import copy_to

T = TypeVar("T")


class SqliteRegistry(SqlRegistry):
    """An open registry; ``SqliteFile`` opens one."""

    def __init__(self, path: Path, engine: Engine, *, read_only: bool) -> None:
        super().__init__(engine, read_only=read_only)
        self.path = path

    @property
    def where(self) -> str:
        """The file."""
        return str(self.path)

    def thaw(self, connection: Connection) -> None:
        """Take the triggers off; see ``SqlRegistry``."""
        triggers.drop(connection)

    def freeze(self, connection: Connection) -> None:
        """Put the triggers on again; SQLite finds the next number by itself."""
        triggers.install(connection)

    def check(self) -> tuple[Problem, ...]:
        """What is wrong: file, foreign keys, triggers, routers, aliases, deleted files."""
        try:
            return tuple(self._problems())
        except LockedError:
            raise
        except (ExpertBankError, SQLAlchemyError) as error:
            return (Problem(str(error), str(self.path), health.RESTORE),)

    def backup(self, target: Path) -> Path:
        """Write a consistent copy to the file ``target``; see ``Registry``."""
        return copy_to(self.path, target)

    def probe_writable(self) -> None:
        """Begin a write and take it back; see ``Registry``."""
        self._require_writable()
        probe(self.engine)

    def _keep(self, promise: Callable[[Session], T]) -> T:
        self._require_writable()
        return super()._keep(promise)

    def _require_writable(self) -> None:
        if self.read_only:
            raise ReadOnlyError.opened(self.where)

    def _problems(self) -> Iterator[Problem]:
        with read(self.engine) as session:
            connection = session.connection()
            revision = schema.revision_of(connection, self.path)
            if revision != schema.HEAD:
                known = revision in schema.REVISIONS
                todo = "run: expertbank db upgrade" if known else health.RESTORE
                yield Problem(f"schema is {revision}, not {schema.HEAD}", str(self.path), todo)
                return
            for line in _integrity(connection):
                yield Problem(line, str(self.path), health.RESTORE)
            yield from health.triggers(triggers.definitions(), triggers.installed(connection))
            yield from health.problems(session)


def _integrity(connection: Connection) -> list[str]:
    """Complaints of SQLite's own checks: pages, indexes, constraints and foreign keys."""
    pages = connection.execute(text("PRAGMA integrity_check")).scalars().all()
    broken = connection.execute(text("PRAGMA foreign_key_check")).all()
    found = [line for line in pages if line != "ok"]
    return found + [f"row {row[1]} of {row[0]} refers to a missing {row[2]}" for row in broken]
