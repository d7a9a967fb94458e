"""The bank's lock: writers share it, what deletes or replaces files holds it alone.

A writer holds it only from the first byte it stores until its row is committed, never while it
trains. The lock ends with the process that held it, however that process ended.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from expertbank.errors import ExpertBankError, LockedError

LOCK_FILE = "bank.lock"
WAIT_SECONDS = 30.0
"""How long a command waits for others before it gives up."""


class BankLock:
    """A lock over one bank's folder, between processes and between threads.

    Args:
        path: the lock's file; made when first needed.
        wait: seconds to wait for others.
    """

    def __init__(self, path: Path, wait: float = WAIT_SECONDS) -> None:
        self.path = path
        self.wait = wait

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold it together with other writers.

        Raises:
            LockedError: ``gc`` or ``db restore`` kept it for longer than the wait.
        """
        with self._held(exclusive=False):
            yield

    @contextmanager
    def exclusive(self) -> Iterator[Callable[[], None]]:
        """Hold it alone; what it gives to ask whether it still does need not be asked here.

        Raises:
            LockedError: others kept it for longer than the wait.
        """
        with self._held(exclusive=True):
            yield lambda: None

    @contextmanager
    def _held(self, *, exclusive: bool) -> Iterator[None]:
        from filelock import ReadWriteLock, Timeout

        try:
            # Made here, so that its permissions follow the user's umask as the database's do.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666))
            # An object of its own for every holder, so that threads wait for each other too.
            lock = ReadWriteLock(self.path, is_singleton=False)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        try:
            (lock.acquire_write if exclusive else lock.acquire_read)(timeout=self.wait)
        except Timeout:
            lock.close()
            who = "other commands are writing to it" if exclusive else "gc or db restore is at work"
            raise LockedError(
                f"the bank at {self.path.parent} is locked for more than {self.wait:g} s: {who}; "
                "wait until they have finished, then run the command again"
            ) from None
        except (OSError, sqlite3.Error) as error:
            lock.close()
            raise self._unusable(error) from error
        try:
            yield
        finally:
            lock.release()
            lock.close()

    def _unusable(self, error: Exception) -> ExpertBankError:
        return ExpertBankError(f"cannot lock {self.path}: {error}; make the bank's folder writable")

    def state(self) -> str:
        """``free``, ``shared`` or ``exclusive``, as another process would find it; never waits."""
        if not self.path.exists():
            return "free"
        from filelock import ReadWriteLock, Timeout

        lock = ReadWriteLock(self.path, is_singleton=False)
        try:
            for acquire, found in (
                (lock.acquire_write, "free"),
                (lock.acquire_read, "shared"),
            ):
                try:
                    acquire(blocking=False)
                except Timeout:
                    continue
                lock.release()
                return found
            return "exclusive"
        finally:
            lock.close()
