"""The end of a server's time to drain, for requests that wait for something from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from expertbank.serving.errors import NotReadyError

T = TypeVar("T")


class Ending:
    """Comes once, and ends what waits.

    Attributes:
        cut: how many requests it ended.
    """

    def __init__(self) -> None:
        self.cut = 0
        self._over = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether it has come."""
        return self._over.is_set()

    def come(self) -> None:
        """End what waits; in the loop's own thread."""
        self._over.set()

    async def before(self, work: Awaitable[T]) -> T:
        """What ``work`` gives.

        Raises:
            NotReadyError: the end came first; the work is cancelled.
        """
        doing = asyncio.ensure_future(work)
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait({doing, over}, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            self.cut += 1
            raise NotReadyError("the server is stopping")
        finally:
            over.cancel()
            doing.cancel()
