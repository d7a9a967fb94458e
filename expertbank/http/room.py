"""The memory that the bodies of all requests may take together, each until its request ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from starlette.types import Scope

from expertbank.http.problems import RefusedError

_KEY = "expertbank.room"
_FULL = "the requests under way take all the memory that there is for bodies; try again later"


class Room:
    """Bytes that are left for bodies. Safe for threads.

    Args:
        most: bytes of all of them together.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._lock = Lock()

    @contextmanager
    def shared_by(self, scope: Scope) -> Iterator[None]:
        """While a request lasts: what it takes is given back at the end."""
        taken: list[int] = []
        scope[_KEY] = self, taken
        try:
            yield
        finally:
            self.take(-sum(taken))

    def take(self, size: int) -> None:
        """Make so many bytes a body's.

        Raises:
            RefusedError: 429, so many are not left.
        """
        with self._lock:
            if size > self._left:
                raise RefusedError(429, _FULL, {"Retry-After": "1"})
            self._left -= size


def take(scope: Scope, size: int) -> None:
    """Take room for a request's body, also for what it is unpacked to.

    Raises:
        RefusedError: 429, there is not so much.
    """
    room, taken = scope[_KEY]
    room.take(size)
    taken.append(size)
