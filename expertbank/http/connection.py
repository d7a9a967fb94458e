"""Connections of slow clients, and bytes that are no HTTP.

uvicorn waits for the first head of a connection, and for the reader of an answer, for as long as
they like, and says of all that it cannot read the same. Here both have a time, and the refusal has
its own status.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import cast

import h11
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from expertbank.http.arriving import identified, new_id
from expertbank.http.limits import HttpConfig
from expertbank.http.problems import MEDIA_TYPE, Problem, body
from expertbank.http.seen import Moment, Sink, refused, tell_refusal

TAKEN = 2**14
"""Bytes in ``read_seconds`` by which it is seen that a reader goes on."""
_ANSWERABLE = (h11.IDLE, h11.SEND_RESPONSE)
_DETAILS = {
    431: "the headers are too large",
    501: "this transfer encoding is not supported",
}


class Connection(H11Protocol):
    """One connection of HTTP/1.1, with a time for heads and for readers."""

    limits = HttpConfig()
    sinks: Sequence[Sink] = ()
    _begun = Moment()
    _head: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Expect a head."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        self._cancel_head()
        self._cancel_stalled()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Note when a head begins."""
        if not self._heard:
            self._begun = Moment()
        super().data_received(data)

    def handle_events(self) -> None:
        """Read what has arrived; a head that has begun must end in time."""
        super().handle_events()
        if self.conn.their_state is not h11.IDLE:
            self._cancel_head()
        elif self._head is None and self._heard:
            self._expect_head()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: who wants another protocol gets HTTP/1.1, and no package would change it."""

    def pause_writing(self) -> None:
        """Give a reader who takes nothing more only so long."""
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        """The reader goes on."""
        self._cancel_stalled()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; called while the reason is being handled."""
        status = getattr(sys.exc_info()[1], "error_status_hint", 400)
        self._refuse(status, _DETAILS.get(status, "this is not valid HTTP/1.1"))

    def _refuse(self, status: int, detail: str) -> None:
        self._cancel_head()
        problem = Problem(status, detail, 2)
        under_way = self.cycle is not None and not self.cycle.response_complete
        if under_way:
            self.cycle.disconnected = True  # whose own answer would be the second
            self.cycle.message_event.set()
        if self.conn.our_state in _ANSWERABLE:
            name = new_id()
            if under_way:
                scope = cast("Scope", self.cycle.scope)
                name = identified(scope)
                tell_refusal(scope, problem)
            else:
                seen = refused(problem, name, self._begun)
                for sink in self.sinks:
                    sink(seen)
            document = body(problem, name)
            headers = [
                (b"x-request-id", name.encode()),
                (b"content-type", MEDIA_TYPE.encode()),
                (b"content-length", str(len(document)).encode()),
                (b"connection", b"close"),
            ]
            for event in (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=document),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    @property
    def _heard(self) -> bool:
        """Whether something has arrived that is not read yet."""
        return bool(self.conn.trailing_data[0])

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(self.limits.read_seconds, self._late)

    def _cancel_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _cancel_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _expect_reader(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(self.limits.read_seconds, self._look_at_reader, left)

    def _look_at_reader(self, before: int) -> None:
        if before - self.transport.get_write_buffer_size() < TAKEN:
            self.transport.abort()
        else:
            self._expect_reader()

    def _late(self) -> None:
        self._head = None
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return
        if self.conn.our_state is h11.IDLE and self._heard:
            seconds = f"{self.limits.read_seconds:g} seconds"
            self._refuse(408, f"the headers did not arrive within {seconds}")
        else:
            self.transport.close()


def connection(limits: HttpConfig, sinks: Sequence[Sink] = ()) -> type[Connection]:
    """The protocol with these limits, and with what takes records of what it refuses itself."""
    return type("LimitedConnection", (Connection,), {"limits": limits, "sinks": tuple(sinks)})
