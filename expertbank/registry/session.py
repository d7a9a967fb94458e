"""Connections to the registry's SQLite file and the two kinds of transaction.

Every transaction opens its own connection (``NullPool``): nothing is shared between threads
and nothing survives a fork. Python's implicit transactions are off; writes take the write
lock at once (``BEGIN IMMEDIATE``), because a transaction that reads first and writes later
fails under contention without waiting.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import IntegrityError as ConstraintError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import NullPool

from expertbank.errors import ExpertBankError, IntegrityError, LockedError

Mode = Literal["ro", "rw", "rwc"]
BUSY_MS = 30_000

# A rollback journal, not WAL: SQLite before 3.51.3 can corrupt a WAL that is being reset,
# and WAL cannot be read from a read-only mount.
_WRITER_PRAGMAS = ("journal_mode=DELETE", "synchronous=EXTRA")


def engine_at(path: Path, *, mode: Mode = "rw", foreign_keys: bool = True) -> Engine:
    """Engine for the SQLite file at ``path``; nothing is opened yet.

    Args:
        path: the database file.
        mode: ``ro`` never writes, except that it lets SQLite undo a transaction whose process
            died; ``rw`` needs an existing file; ``rwc`` creates it.
        foreign_keys: off only while a migration rebuilds tables.
    """
    uri = path.absolute().as_uri()

    def connect() -> sqlite3.Connection:
        able = "rw" if mode == "ro" and _may_undo(path) else mode
        return sqlite3.connect(f"{uri}?mode={able}", uri=True)

    engine = create_engine(
        "sqlite+pysqlite://",
        creator=connect,
        poolclass=NullPool,
        execution_options={"registry_path": str(path)},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        pragmas = [f"busy_timeout={BUSY_MS}", f"foreign_keys={'ON' if foreign_keys else 'OFF'}"]
        pragmas += ["trusted_schema=OFF"]
        pragmas += ["query_only=ON"] if mode == "ro" else _WRITER_PRAGMAS
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        kind = connection.get_execution_options().get("registry_begin", "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


@contextmanager
def write(engine: Engine) -> Iterator[Session]:
    """One write transaction: all of it is committed at the end, or none of it.

    Raises:
        LockedError: another process kept the write lock for 30 seconds.
        IntegrityError: the file is damaged, or a row refers to something unregistered.
        ExpertBankError: the disk is full or the file cannot be written.
    """
    with translated(engine), Session(engine) as session, session.begin():
        session.connection()  # take the write lock before the caller reads anything
        yield session


@contextmanager
def read(engine: Engine) -> Iterator[Session]:
    """One consistent view of the registry.

    Raises:
        LockedError: another process kept the file locked for 30 seconds.
        IntegrityError: the file is damaged or is not a database.
    """
    reader = engine.execution_options(registry_begin="DEFERRED")
    with translated(engine), Session(reader) as session, session.begin():
        yield session


def probe(engine: Engine) -> None:
    """Begin a write and take it back, to fail before long work rather than after it.

    Raises:
        LockedError: another process kept the write lock for 30 seconds.
        ExpertBankError: the file or its folder cannot be written.
    """
    with translated(engine), engine.connect() as connection, connection.begin() as transaction:
        # The lock alone needs no journal; the first changed page does, so change one.
        connection.exec_driver_sql("PRAGMA user_version=1")
        transaction.rollback()


@contextmanager
def outside_transaction(engine: Engine) -> Iterator[sqlite3.Connection]:
    """A configured driver connection for statements no transaction may hold (``VACUUM``)."""
    with translated(engine):
        proxy = engine.raw_connection()
        try:
            connection = proxy.driver_connection
            assert isinstance(connection, sqlite3.Connection)
            yield connection
        finally:
            proxy.close()


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Turn the driver's failures into errors that say what to do."""
    where = str(engine.get_execution_options().get("registry_path", engine.url))
    try:
        yield
    except DBAPIError as error:
        known = _explain(str(error.orig), where)
        if known is None:
            raise
        raise known from error
    except sqlite3.Error as error:
        known = _explain(str(error), where)
        if known is None:
            raise
        raise known from error


def is_unique_violation(error: ConstraintError) -> bool:
    """Whether a constraint failed because the row is already there."""
    return "unique" in str(error.orig).lower()


def insert_missing(
    session: Session,
    entity: type[DeclarativeBase],
    rows: Sequence[dict[str, Any]],
    revive: str | None = None,
) -> None:
    """Insert ``rows``, leaving those whose primary key exists as they are.

    Args:
        session: an open write transaction.
        entity: the table's class.
        rows: column values.
        revive: a column that is set to null in rows that exist (a tombstone taken back).
    """
    if not rows:
        return
    table = entity.__table__
    assert isinstance(table, Table)
    statement = insert(table)
    if revive is None:
        session.execute(statement.on_conflict_do_nothing(), list(rows))
        return
    column = table.c[revive]
    session.execute(
        statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={revive: None},
            where=column.is_not(None),
        ),
        list(rows),
    )


def _may_undo(path: Path) -> bool:
    # A journal is there while a writer works, or because one was killed. In the second case
    # even a reader must restore the file first, which SQLite does only when it may write.
    return path.with_name(f"{path.name}-journal").exists() and os.access(path.parent, os.W_OK)


def _explain(message: str, where: str) -> ExpertBankError | None:
    # By message, since Python 3.10 does not expose SQLite's error codes.
    text = message.lower()
    if "locked" in text:
        return LockedError(
            f"{where} is locked by another process for more than {BUSY_MS // 1000} s; "
            "wait until it has finished, then run the command again"
        )
    if "not a database" in text:
        return IntegrityError(
            f"{where} is not an expertbank registry (not a SQLite database); "
            "check --home, or restore the file from a backup"
        )
    if "malformed" in text or "corrupt" in text:
        return IntegrityError(f"{where} is damaged ({message}); restore it from a backup")
    if "foreign key" in text:
        return IntegrityError(
            f"{where}: a row refers to something that is not registered, or something still "
            "in use would be deleted; nothing was written"
        )
    if "disk is full" in text:
        return ExpertBankError(f"no space left for {where}; free some space and run it again")
    if "readonly" in text or "read-only" in text:
        return ExpertBankError(
            f"{where} cannot be written (read-only); make the file and its folder writable, also "
            "when only reading failed: an interrupted write must be undone first"
        )
    if "unable to open" in text:
        return ExpertBankError(
            f"{where} cannot be opened; check that the file and its folder exist and are permitted"
        )
    if "disk i/o" in text:
        return ExpertBankError(f"reading or writing {where} failed; check the disk")
    return None
