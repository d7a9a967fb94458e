"""The two kinds of transaction, whatever database the engine belongs to.

An engine that comes here turns its driver's failures into errors that say what to do, and lets
writers wait for each other: what a write transaction has read stays true until it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.orm import Session

READS = "registry_reads"
"""Execution option of connections that only read; an engine begins their transactions so."""


@contextmanager
def write(engine: Engine) -> Iterator[Session]:
    """One write transaction: all of it is committed at the end, or none of it.

    Raises:
        LockedError: another process kept the write lock for too long.
        IntegrityError: the database is damaged, or a row refers to something unregistered.
        ExpertBankError: the disk is full or the database cannot be written.
    """
    with Session(engine) as session, session.begin():
        session.connection()  # take the write lock before the caller reads anything
        yield session


@contextmanager
def read(engine: Engine) -> Iterator[Session]:
    """One consistent view of the registry.

    Raises:
        LockedError: another process kept the database locked for too long.
        IntegrityError: it is damaged or is no registry.
    """
    with Session(engine.execution_options(**{READS: True})) as session, session.begin():
        yield session
