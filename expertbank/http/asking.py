"""From a request to the server's queue and back: deadlines, and callers who leave."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from anyio import CancelScope
from fastapi import Request
from starlette.requests import ClientDisconnect

from expertbank.http.problems import malformed
from expertbank.http.seen import tell
from expertbank.serving.answered import Answered
from expertbank.serving.asking import Ask
from expertbank.serving.errors import DeadlineError
from expertbank.serving.live import ServingState
from expertbank.serving.server import Server

T = TypeVar("T")
DEADLINE_HEADER = "X-Deadline-Ms"
LONGEST = 3600.0
"""Seconds that a request may wish to be given."""
_INLINE_CHARACTERS = 2_000
"""Text that is tokenized in the loop's own thread; a hop to another costs more than that."""


def deadline_of(request: Request, config_ms: float, wished: float | None = None) -> float:
    """When a request is given up, by ``time.monotonic()``.

    Args:
        request: may name milliseconds in ``X-Deadline-Ms``.
        config_ms: the server's own.
        wished: seconds that the body names; the header goes before.

    Raises:
        RefusedError: the header is no number above 0.
    """
    told = request.headers.get(DEADLINE_HEADER)
    seconds = config_ms / 1000 if wished is None else wished
    if told is not None:
        try:
            seconds = float(told) / 1000
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise malformed(f"{DEADLINE_HEADER} must be milliseconds above 0")
    return time.monotonic() + min(seconds, LONGEST)


async def submit(
    server: Server, ask: Ask, deadline: float, under: ServingState | None = None
) -> Future[Answered]:
    """Queue a request without holding up the others.

    Long texts are tokenized, and experts that are not in memory read, on another thread.
    """
    size = sum(len(row.text) + len(row.text_pair or "") for row in ask.rows)
    size += sum(len(choice) for row in ask.rows for choice in row.choices)
    if size <= _INLINE_CHARACTERS and server.at_hand(ask, under):
        return server.submit(ask, deadline, under)
    return await asyncio.to_thread(server.submit, ask, deadline, under)


async def awaited(
    server: Server, ask: Ask, deadline: float, under: ServingState | None = None
) -> Answered:
    """The answer to a request; whoever cancels this withdraws the request.

    Raises:
        DeadlineError: it took too long; what was not done by then is not done.
        ExpertBankError: as ``Server.submit``.
    """
    future = await submit(server, ask, deadline, under)
    try:
        left = max(0.0, deadline - time.monotonic())
        return await asyncio.wait_for(asyncio.wrap_future(future), left)
    except asyncio.TimeoutError:
        raise DeadlineError("the deadline has passed") from None
    finally:
        future.cancel()  # harmless once it is done


async def until_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` gives, unless the caller leaves first; the request's body has been read.

    It is done in the caller's own task: what it has given, a connection perhaps, is never lost.

    Raises:
        ClientDisconnect: the caller left, and ``work`` was cancelled.
    """
    with CancelScope() as scope:
        leaving = asyncio.ensure_future(_cancel_once_left(request, scope))
        try:
            return await work
        finally:
            leaving.cancel()
    raise ClientDisconnect


async def answer(
    server: Server,
    request: Request,
    ask: Ask,
    wished: float | None = None,
    under: ServingState | None = None,
) -> Answered:
    """The answer to a request whose body has been read, by its deadline.

    Args:
        server: what answers.
        request: who asks.
        ask: what is asked.
        wished: seconds that the body names.
        under: as ``Server.submit``.

    Raises:
        ClientDisconnect: the caller left; what was not done by then is not done.
        ExpertBankError: as ``awaited``, and as ``deadline_of``.
    """
    deadline = deadline_of(request, server.config.deadline_ms, wished)
    found = await until_left(request, awaited(server, ask, deadline, under))
    tell(request.scope, found, ask.rows)
    return found


async def _cancel_once_left(request: Request, scope: CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
