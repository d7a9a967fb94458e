"""What a failure of the driver means to whoever runs a command, and what may be tried again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from expertbank.errors import (
    ExpertBankError,
    IntegrityError,
    LockedError,
    NotFoundError,
    ReadOnlyError,
)
from expertbank.registry.postgres.address import Address

T = TypeVar("T")

PAUSES = (0.02, 0.1, 0.3, 0.6, 1.0, 2.0, 4.0, 4.0)
"""Seconds before a transaction is tried again: a server that restarts is back by then."""


class LostError(ExpertBankError):
    """The connection to the server was lost, or there is none."""


class ConflictError(LockedError):
    """The server gave up a transaction in favour of another one."""


class UncertainError(ExpertBankError):
    """Nobody can say whether a transaction was committed."""


class NeverReachedError(LostError):
    """No connection could be made, and waiting will not help."""


def persist(
    attempt: Callable[[], T], hopeful: Callable[[], bool], pauses: Sequence[float] = PAUSES
) -> T:
    """Try again after a lost connection or a conflict, at most as often as there are pauses.

    Args:
        attempt: one whole transaction.
        hopeful: whether the server was ever reached, so that one that is away may come back.
        pauses: seconds before each further attempt.
    """
    for pause in pauses:
        try:
            return attempt()
        except (LostError, ConflictError) as error:
            if isinstance(error, NeverReachedError) and not hopeful():
                raise
            time.sleep(pause)
    return attempt()


def explained(error: BaseException, where: Address, *, lost: bool) -> ExpertBankError | None:
    """The error that says what to do about a failure of the driver, where one is known.

    Args:
        error: the driver's.
        where: the database.
        lost: whether the connection is gone.
    """
    import psycopg

    if not isinstance(error, psycopg.Error):
        return None
    state = error.sqlstate or ""
    said = where.masked(error)
    network = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if not state and not network:
        return None
    if not state and not lost:
        return _unreachable(said, where)
    if lost or state[:2] == "08" or state in _ENDED:
        return LostError(
            f"the connection to {where} was lost ({said}); look at the server and the network, "
            "then run the command again"
        )
    return _refused(state, said, where)


_ENDED = {"57P01", "57P02", "57P03", "57P05", "25P03"}
"""The server shut down, crashed, is starting, or ended an idle session."""


_LOGIN = (
    *("password", "authentication failed", "no pg_hba.conf entry", "not permitted to log in"),
    *('role "', "permission denied for database"),
)
"""What libpq's words of a refused login have in them."""


_STARTING = (
    *("starting up", "shutting down", "recovery mode", "recovery state"),
    *("not yet accepting connections", "not accepting connections"),
)
"""What they have in them of a server that starts, also after a crash, or stops."""


def _unreachable(said: str, where: Address) -> ExpertBankError:
    """What libpq says of a connection that was not made; it tells by words alone."""
    low = said.lower()
    if "database" in low and "does not exist" in low:
        return NotFoundError(
            f"there is no database at {where}; make it with: createdb, or ask its administrator"
        )
    if any(words in low for words in _LOGIN):
        return ExpertBankError(
            f"{where} refused the login ({said}); give the password in PGPASSWORD or ~/.pgpass, "
            "and check user and host"
        )
    if any(words in low for words in _STARTING):
        return LostError(f"{where} is starting or stopping; run the command again in a moment")
    if "too many" in low or "remaining connection slots" in low:
        return LostError(f"{where} has no connection left ({said}); wait, or raise max_connections")
    return NeverReachedError(
        f"{where} cannot be reached ({said}); check host and port, and that the server runs"
    )


def _refused(state: str, said: str, where: Address) -> ExpertBankError | None:
    if state in {"40001", "40P01"}:
        return ConflictError(f"{where}: others wrote at the same time ({said}); run it again")
    if state == "55P03":
        return LockedError(
            f"{where} is locked by another process for too long; wait until it has finished, then "
            "run the command again"
        )
    if state == "57014":
        return LockedError(f"{where}: a statement took too long or was cancelled ({said})")
    if state == "23503":
        return IntegrityError(
            f"{where}: a row refers to something that is not registered, or something still "
            "in use would be deleted; nothing was written"
        )
    if state == "25006":
        return ReadOnlyError(
            f"{where} cannot be written (read-only): it is a standby, or set so; name the primary"
        )
    if state == "42501":
        return ReadOnlyError(
            f"{where}: the database user lacks a permission ({said}); grant it, or use another user"
        )
    if state == "3F000":
        return NotFoundError(f"{where}: its schema does not exist ({said}); create it first")
    if state[:2] == "53":
        return ExpertBankError(f"{where} has no room left ({said}); free space or memory there")
    if state[:2] in {"XX", "58"}:
        return IntegrityError(f"{where} is damaged ({said}); restore it from a backup")
    if state == "22021":
        return ExpertBankError(f"{where} cannot hold this text ({said}); make it with UTF8")
    return None
