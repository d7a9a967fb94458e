"""The end of a server's time to drain, for requests that wait for something from elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from anyio import CancelScope

from expertbank.serving.errors import NotReadyError

T = TypeVar("T")


class Ending:
    """Comes once, and ends what waits.

    Attributes:
        cut: how many requests it ended.
        over: whether it has come.
    """

    def __init__(self) -> None:
        self.cut = 0
        self.over = False
        self._waits: set[CancelScope] = set()

    def come(self) -> None:
        """End what waits; in the loop's own thread."""
        self.over = True
        for scope in self._waits:
            scope.cancel()

    async def before(self, work: Awaitable[T]) -> T:
        """What ``work`` gives, done in the caller's own task: what it has given is never lost.

        Raises:
            NotReadyError: the end came first; the work is cancelled.
        """
        with CancelScope() as scope:
            self._waits.add(scope)
            if self.over:
                scope.cancel()
            try:
                return await work
            finally:
                self._waits.discard(scope)
        self.cut += 1
        raise NotReadyError("the server is stopping")
