"""Connections to the registry's PostgreSQL database.

A few are kept and asked whether they still live before they are used. Write transactions take
one advisory lock first, so they wait for each other as SQLite's do; each of their statements then
sees what was committed before. Read transactions are one repeatable view each. Nothing waits
without end.
"""

from __future__ import annotations

import os
from functools import partial
from logging import NullHandler, getLogger
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    ExceptionContext,
    create_engine,
    event,
)

from expertbank.registry.postgres.address import Address
from expertbank.registry.postgres.failures import explained
from expertbank.registry.session import READS

LOCK_MS = 30_000
"""How long a statement waits for others."""
STATEMENT_MS = 120_000
"""How long a statement may take."""
IDLE_MS = 60_000
"""After how long the server ends a transaction whose process does nothing, and frees its lock."""
CONNECT_SECONDS = 10
POOL = 2
"""Connections that a process keeps; it may open as many again for a moment."""
WRITE_SEED, BANK_SEED = 5_150_601, 5_150_602
"""What the two advisory locks are numbered by, together with the schema."""

for _name in ("sqlalchemy.pool", "psycopg"):
    # What they say of connections that die is said by the errors that come of it.
    getLogger(_name).addHandler(NullHandler())

_LIMITS = (
    "SET LOCAL lock_timeout = {lock}; SET LOCAL statement_timeout = {statement}; "
    "SET LOCAL idle_in_transaction_session_timeout = {idle};"
)
_KEEPALIVE = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_reached: set[tuple[int, Address]] = set()


def reached(address: Address) -> bool:
    """Whether this process ever had a connection to the database at ``address``."""
    return (os.getpid(), address) in _reached


def lock_key(seed: int) -> str:
    """SQL for the number of an advisory lock of the bank in the current schema."""
    return f"hashtextextended(current_schema()::text, {seed})"


def engine_at(address: Address, *, limited: bool = True, **settings: Any) -> Engine:
    """Engine for the database at ``address``; nothing is opened yet.

    Its failures are ``NotFoundError`` (no such database), ``LockedError`` (others kept a lock for
    too long), ``IntegrityError`` (a row that refers to nothing, a frozen one), ``LostError`` and
    ``ConflictError``, after which the transaction may be tried again, or ``ExpertBankError``.

    Args:
        address: the database.
        limited: whether statements end after ``STATEMENT_MS``; not while a migration runs.
        settings: of SQLAlchemy's ``create_engine`` for a pool, instead of the small one.
    """
    small = {"pool_size": POOL, "max_overflow": POOL, "pool_timeout": LOCK_MS / 1000}
    engine = create_engine(
        address.sqlalchemy,
        **(settings or {"pool_pre_ping": True, **small}),
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "expertbank",
            **_KEEPALIVE,
        },
    )
    event.listen(engine, "begin", partial(_begin, limited=limited))
    event.listen(engine, "connect", lambda *_: _reached.add((os.getpid(), address)))

    @event.listens_for(engine, "handle_error")
    def _explain(context: ExceptionContext) -> None:
        if context.is_pre_ping:
            return  # the pool opens another connection
        error, connected = context.original_exception, context.connection is not None
        # An error without a state is not the server's: the driver lost track of the connection.
        lost = context.is_disconnect or (connected and getattr(error, "sqlstate", None) is None)
        known = explained(error, address, lost=lost)
        if known is not None:
            raise known from None  # the driver's own may hold what a message must not

    return engine


def _begin(connection: Connection, *, limited: bool) -> None:
    reads = connection.get_execution_options().get(READS)
    first = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;" if reads else ""
    last = "" if reads else f"SELECT pg_advisory_xact_lock({lock_key(WRITE_SEED)});"
    limits = _LIMITS.format(lock=LOCK_MS, statement=STATEMENT_MS if limited else 0, idle=IDLE_MS)
    connection.exec_driver_sql(first + limits + last)
