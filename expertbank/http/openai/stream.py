"""Answers as server-sent events, while they are written."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future

from fastapi import Request

from expertbank.http.openai.answer import Shape, finish_of, origin_of, text_of, usage_of
from expertbank.http.openai.errors import openai_error
from expertbank.http.openai.request import Wanted
from expertbank.http.seen import failed, tell
from expertbank.http.sse import DONE, event
from expertbank.serving.answered import Answered
from expertbank.serving.asking import Ask
from expertbank.serving.errors import DeadlineError
from expertbank.serving.server import Server


class Writer:
    """Takes what the worker's thread writes, for the loop that sends it.

    Of each row only the latest is kept: a caller who reads slowly gets more at a time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._texts: dict[int, str] = {}
        self._ended = False
        self._changed = asyncio.Event()
        self._gone = threading.Event()

    def __call__(self, index: int, text: str) -> bool:
        """Called by the worker; false once nobody listens."""
        if not self._gone.is_set():
            self._soon(lambda: self._texts.update({index: text}))
        return not self._gone.is_set()

    def end_with(self, future: Future[Answered]) -> None:
        """Nothing follows once ``future`` is done."""
        future.add_done_callback(lambda _: self._soon(self._end))

    def left(self) -> None:
        """Nobody listens any more."""
        self._gone.set()

    async def heard(self, deadline: float) -> AsyncIterator[tuple[int, str]]:
        """Rows and their answers so far, until the last.

        Raises:
            DeadlineError: it took too long.
        """
        while not self._ended:
            left = max(0.0, deadline - time.monotonic())
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except asyncio.TimeoutError:
                raise DeadlineError("the deadline has passed") from None
            self._changed.clear()
            written, self._texts = self._texts, {}
            for item in written.items():
                yield item

    def _end(self) -> None:
        self._ended = True

    def _soon(self, change: Callable[[], None]) -> None:
        def changed() -> None:
            change()
            self._changed.set()

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(changed)


async def events(
    server: Server,
    request: Request,
    ask: Ask,
    future: Future[Answered],
    writer: Writer,
    deadline: float,
    wanted: Wanted,
    shape: Shape,
) -> AsyncIterator[bytes]:
    """Answers as they are written; what ends them early is told in the last event."""
    sent = [""] * len(ask.rows)
    try:
        async for index, text in writer.heard(deadline):
            if not text.startswith(sent[index]) or text == sent[index]:
                continue  # a pass that failed is begun anew
            delta = shape.delta(index, text[len(sent[index]) :], None, first=not sent[index])
            sent[index] = text
            yield event(shape.document(wanted.model, [delta], part=True))
        found = future.result()
        tell(request.scope, found, ask.rows)
        for index, one in enumerate(found.predictions):
            rest = text_of(one)[len(sent[index]) :]
            last = shape.delta(index, rest, finish_of(one), first=not sent[index])
            choices = [{**last, **origin_of(one, found)}]
            yield event(shape.document(wanted.model, choices, part=True))
        if wanted.usage:
            document = shape.document(wanted.model, [], part=True)
            yield event({**document, "usage": usage_of(found)})
        yield DONE
    except Exception as error:  # noqa: BLE001 (the status was sent long ago)
        problem = failed(request.scope, error, server.state)
        yield event({"error": openai_error(problem)})
    finally:
        writer.left()
        future.cancel()
