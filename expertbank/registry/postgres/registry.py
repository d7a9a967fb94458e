"""An open registry in PostgreSQL: what SQL shares, and the care that a server needs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft
from sqlalchemy.orm import Session

from expertbank.errors import ExpertBankError, InputError, LockedError, ReadOnlyError
from expertbank.records import Problem
from expertbank.registry import health, schema
from expertbank.registry.postgres import soundness, triggers
from expertbank.registry.postgres.address import Address
from expertbank.registry.postgres.connection import reached
from expertbank.registry.postgres.failures import PAUSES, LostError, UncertainError, persist
from expertbank.registry.session import read, write
from expertbank.registry.sql import SqlRegistry
from expertbank.registry.transfer import greatest_numbers

T = TypeVar("T")

_OWN_NUMBER = text("SELECT pg_current_xact_id_if_assigned()::text")
_NEXT_NUMBER = text(
    "SELECT setval(pg_get_serial_sequence(CAST(:table AS text), 'id'), CAST(:next AS bigint), "
    "false)"
)
_OUTCOME = text("SELECT pg_xact_status(CAST(CAST(:number AS text) AS xid8))")


class PostgresRegistry(SqlRegistry):
    """An open registry; ``PostgresDatabase`` opens one.

    A transaction whose connection is lost, or that the server gave up for another, is done again.
    Where it was lost while it was committed the server is asked what became of it.
    """

    def __init__(self, address: Address, engine: Engine, *, read_only: bool) -> None:
        super().__init__(engine, read_only=read_only)
        self.address = address
        self._process = os.getpid()

    @property
    def where(self) -> str:
        """The URL, without secrets."""
        return str(self.address)

    def thaw(self, connection: Connection) -> None:
        """Take the triggers off; see ``SqlRegistry``."""
        triggers.drop(connection)

    def freeze(self, connection: Connection) -> None:
        """Put the triggers on again, and let the next number follow the greatest that came in."""
        triggers.install(connection)
        for table, last in greatest_numbers(connection).items():
            sequence = {"table": table, "next": last + 1}
            connection.execute(_NEXT_NUMBER, sequence)

    def check(self) -> tuple[Problem, ...]:
        """What is wrong: schema, constraints, triggers, routers, aliases, deleted files."""
        try:
            return self._ask(lambda session: tuple(self._problems(session)))
        except (LockedError, LostError):
            raise
        except (ExpertBankError, SQLAlchemyError) as error:
            return (Problem(str(error), str(self.address), health.RESTORE),)

    def backup(self, target: Path) -> Path:
        """Refuse: a server has its own tools.

        Raises:
            InputError: always; it names what to use.
        """
        raise InputError(
            f"{self.address} is backed up by PostgreSQL's own tools: pg_dump --format=custom "
            "--file=FILE, and pg_restore; or copy the whole bank: expertbank db copy"
        )

    def probe_writable(self) -> None:
        """Write a row and take it back; see ``Registry``."""
        self._require_writable()

        def rehearse() -> None:
            with (
                self._connections(),
                self.engine.connect() as connection,
                connection.begin() as transaction,
            ):
                # A standby and a missing permission show with the first write alone.
                connection.execute(text("DELETE FROM statistics WHERE expert_id = -1"))
                connection.execute(
                    text(
                        "INSERT INTO artifacts (digest, kind, bytes, created_at) "
                        "VALUES (repeat('0', 64), 'probe', 0, '') ON CONFLICT DO NOTHING"
                    )
                )
                transaction.rollback()

        persist(rehearse, lambda: reached(self.address))

    def _ask(self, question: Callable[[Session], T]) -> T:
        def attempt() -> T:
            with self._connections(), read(self.engine) as session:
                return question(session)

        return persist(attempt, lambda: reached(self.address))

    def _keep(self, promise: Callable[[Session], T]) -> T:
        self._require_writable()

        def attempt() -> T:
            number: str | None = None
            with self._connections():
                try:
                    with write(self.engine) as session:
                        result = promise(session)
                        session.flush()
                        number = session.scalar(_OWN_NUMBER)
                except LostError:
                    # Lost before that question: nothing was committed. After it: perhaps.
                    if number is None or not self._was_committed(number):
                        raise
                return result

        return persist(attempt, lambda: reached(self.address))

    def _was_committed(self, number: str) -> bool:
        """What became of a transaction whose connection was lost while it was committed.

        Raises:
            UncertainError: the server does not say so for too long.
        """

        def ask() -> str | None:
            with self._connections(), read(self.engine) as session:
                found: str | None = session.scalar(_OUTCOME, {"number": number})
                return found

        for pause in PAUSES:
            outcome = persist(ask, lambda: True)
            if outcome in {"committed", "aborted"}:
                return outcome == "committed"
            time.sleep(pause)
        raise UncertainError(
            f"the connection to {self.address} was lost at the last moment and the server still "
            "works on what was sent: look whether it was written (expertbank history) before you "
            "run the command again"
        )

    def _require_writable(self) -> None:
        if self.read_only:
            raise ReadOnlyError.opened(self.where)

    @contextmanager
    def _connections(self) -> Iterator[None]:
        if self._process != os.getpid():
            # Those that a fork inherited are the parent's: let go of without a word to the server.
            self.engine.dispose(close=False)
            self._process = os.getpid()
        try:
            yield
        except NoConnectionLeft:
            raise LockedError(
                f"all connections of this process to {self.address} are in use for too long; use "
                "fewer threads, or several processes"
            ) from None

    def _problems(self, session: Session) -> Iterator[Problem]:
        connection, where = session.connection(), str(self.address)
        revision = schema.revision_of(connection, where)
        if revision != schema.HEAD:
            known = revision in schema.REVISIONS
            todo = "run: expertbank db upgrade" if known else health.RESTORE
            yield Problem(f"schema is {revision}, not {schema.HEAD}", where, todo)
            return
        for what in soundness.complaints(connection):
            yield Problem(what, where, health.RESTORE)
        yield from health.triggers(triggers.definitions(), triggers.installed(connection))
        yield from health.problems(session)
