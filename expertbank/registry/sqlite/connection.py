"""Connections to the registry's SQLite file.

Every transaction opens its own connection (``NullPool``): nothing is shared between threads
and nothing survives a fork. Python's implicit transactions are off; writes take the write
lock at once (``BEGIN IMMEDIATE``), because a transaction that reads first and writes later
fails under contention without waiting.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.pool import NullPool

from expertbank.errors import ExpertBankError, IntegrityError, LockedError, ReadOnlyError
from expertbank.registry.session import READS

Mode = Literal["ro", "rw", "rwc"]
BUSY_MS = 30_000

# A rollback journal, not WAL: SQLite before 3.51.3 can corrupt a WAL that is being reset,
# and WAL cannot be read from a read-only mount.
_WRITER_PRAGMAS = ("journal_mode=DELETE", "synchronous=EXTRA")


def engine_at(path: Path, *, mode: Mode = "rw", foreign_keys: bool = True) -> Engine:
    """Engine for the SQLite file at ``path``; nothing is opened yet.

    Its failures are ``LockedError`` (another process kept the lock for 30 seconds),
    ``IntegrityError`` (damaged, no database, a row that refers to nothing), ``ReadOnlyError`` (the
    file cannot be written) or ``ExpertBankError`` (the disk is full).

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

    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=NullPool)

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
        reads = connection.get_execution_options().get(READS)
        connection.exec_driver_sql(f"BEGIN {'DEFERRED' if reads else 'IMMEDIATE'}")

    @event.listens_for(engine, "handle_error")
    def _explain(context: ExceptionContext) -> None:
        known = explained(context.original_exception, path)
        if known is not None:
            raise known from context.original_exception

    return engine


def reader_at(path: Path) -> Engine:
    """Engine that only reads the file at ``path``."""
    return engine_at(path, mode="ro").execution_options(**{READS: True})


def probe(engine: Engine) -> None:
    """Begin a write and take it back, to fail before long work rather than after it."""
    with engine.connect() as connection, connection.begin() as transaction:
        # The lock alone needs no journal; the first changed page does, so change one.
        connection.exec_driver_sql("PRAGMA user_version=1")
        transaction.rollback()


@contextmanager
def outside_transaction(
    path: Path, *, mode: Mode = "ro", writes: Path | None = None
) -> Iterator[sqlite3.Connection]:
    """A configured driver connection for statements no transaction may hold (``VACUUM``).

    Args:
        path: the database.
        mode: how it is opened.
        writes: the file that the statements write, where that is another one.
    """
    proxy = engine_at(path, mode=mode).raw_connection()
    try:
        connection = proxy.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        yield connection
    except sqlite3.Error as error:
        known = explained(error, path, writes)
        if known is None:
            raise
        raise known from error
    finally:
        proxy.close()


def _may_undo(path: Path) -> bool:
    # A journal is there while a writer works, or because one was killed. In the second case
    # even a reader must restore the file first, which SQLite does only when it may write.
    return path.with_name(f"{path.name}-journal").exists() and os.access(path.parent, os.W_OK)


def explained(
    error: BaseException, where: Path, writes: Path | None = None
) -> ExpertBankError | None:
    """The error that says what to do about a failure of the driver, where one is known.

    Args:
        error: the driver's.
        where: the database.
        writes: the file that was written, where that is another one.
    """
    # By message, since Python 3.10 does not expose SQLite's error codes.
    text = str(error).lower()
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
        return IntegrityError(f"{where} is damaged ({error}); restore it from a backup")
    if "foreign key" in text:
        return IntegrityError(
            f"{where}: a row refers to something that is not registered, or something still "
            "in use would be deleted; nothing was written"
        )
    if "disk is full" in text:
        full = writes or where
        return ExpertBankError(f"no space left for {full}; free some space and run it again")
    if "readonly" in text or "read-only" in text:
        return ReadOnlyError(
            f"{where} cannot be written (read-only); make the file and its folder writable, also "
            "when only reading failed: an interrupted write must be undone first"
        )
    if "unable to open" in text:
        return ExpertBankError(
            f"{where} cannot be opened; check that the file and its folder exist and are permitted"
        )
    if "disk i/o" in text:
        files = [str(path) for path in (where, writes) if path is not None]
        return ExpertBankError(f"reading or writing {' or '.join(files)} failed; check the disk")
    return None
