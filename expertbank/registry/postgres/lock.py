"""The bank's lock in its database, for what the lock file is in a folder.

An advisory lock of a session of its own: it ends with the connection, however that ended, and
with the process. Who holds it alone can ask whether it still does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sqlalchemy.pool import NullPool

from expertbank.errors import ExpertBankError, LockedError
from expertbank.registry.postgres.address import Address
from expertbank.registry.postgres.connection import BANK_SEED, engine_at, lock_key, reached
from expertbank.registry.postgres.failures import explained, persist

if TYPE_CHECKING:
    from psycopg import Connection

_KEY = lock_key(BANK_SEED)


class DatabaseLock:
    """A lock over the bank in one schema, between processes, threads and machines.

    Args:
        address: the database.
        wait: seconds to wait for others.
    """

    def __init__(self, address: Address, wait: float) -> None:
        self.address = address
        self.wait = wait

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold it together with other writers.

        Raises:
            LockedError: ``gc`` kept it for longer than the wait.
        """
        with self._session(lambda session: self._take(session, "_shared", "gc is at work")):
            yield

    @contextmanager
    def exclusive(self) -> Iterator[Callable[[], None]]:
        """Hold it alone; call what it gives before everything that must not be done without it.

        Raises:
            LockedError: others kept it for longer than the wait.
        """
        who = "other commands are writing to it"
        with self._session(lambda session: self._take(session, "", who)) as session:
            yield lambda: self._require(session)

    def state(self) -> str:
        """``free``, ``shared`` or ``exclusive``, as another process would find it; never waits."""
        with self._session(lambda _: None) as session:
            for kind, found in (("", "free"), ("_shared", "shared")):
                if self._ask(session, f"SELECT pg_try_advisory_lock{kind}({_KEY})"):
                    return found
        return "exclusive"

    def _take(self, session: Connection, kind: str, who: str) -> None:
        if self.wait <= 0:
            held = self._ask(session, f"SELECT pg_try_advisory_lock{kind}({_KEY})")
        else:
            limit = max(1, int(self.wait * 1000))
            self._ask(session, f"SELECT set_config('lock_timeout', '{limit}', false)")
            held = True
            try:
                self._ask(session, f"SELECT pg_advisory_lock{kind}({_KEY})")
            except LockedError:
                held = False
        if not held:
            raise LockedError(
                f"the bank at {self.address} is locked for more than {self.wait:g} s: {who}; "
                "wait until they have finished, then run the command again"
            )

    def _require(self, session: Connection) -> None:
        try:
            self._ask(session, "SELECT 1")
        except ExpertBankError as error:
            raise LockedError(
                f"the lock of the bank at {self.address} was lost with the connection; what was "
                "done so far is whole: run the command again"
            ) from error

    def _ask(self, session: Connection, query: str) -> object:
        with self._told(session):
            row = session.execute(query.encode()).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _told(self, session: Connection | None = None) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            known = explained(error, self.address, lost=session is not None and session.closed)
            if known is None:
                raise
            raise known from None

    @contextmanager
    def _session(self, begin: Callable[[Connection], None]) -> Iterator[Connection]:
        """A connection on which ``begin`` was done; again where it was lost meanwhile."""
        engine = engine_at(self.address, poolclass=NullPool)

        def connect() -> Connection:
            with self._told():
                proxy = engine.raw_connection()
                session: Connection = proxy.driver_connection  # type: ignore[assignment]
                proxy.detach()  # never back to a pool with a lock on it
                session.autocommit = True
            return session

        def begun() -> Connection:
            session = connect()
            try:
                begin(session)
            except BaseException:
                _close(session)
                raise
            return session

        session = persist(begun, lambda: reached(self.address))
        try:
            yield session
        finally:
            _close(session)


def _close(session: Connection) -> None:
    with suppress(Exception):
        session.close()
