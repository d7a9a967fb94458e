"""How requests arrive: targets, ids, keys, the size of headers, the size and speed of bodies.

Each is an ASGI application around another one.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Sequence
from urllib.parse import unquote

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from expertbank.http.ending import Ending
from expertbank.http.keys import KeyFile, offered_keys
from expertbank.http.problems import Problem, RefusedError, malformed, not_ready, response
from expertbank.http.protocol import Protocol, spoken
from expertbank.http.room import Room, take
from expertbank.http.seen import failed, tell_failure
from expertbank.serving.server import Server

OPEN = frozenset({"/v2/health/live", "/v2/health/ready"})
"""What is answered without a key: probes have none, and it tells of nothing."""
CHALLENGES = ('Bearer realm="expertbank"', 'Basic realm="expertbank", charset="UTF-8"')
LINGER_BYTES = 2**25
LINGER_SECONDS = 2.0
"""How much of a refused body is still taken in, so that its sender gets to read the refusal
instead of a broken connection."""
_LENGTHS = (b"content-length", b"transfer-encoding")
_ORIGIN = re.compile(rb"https?://[^/]*", re.IGNORECASE)
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def request_id(scope: Scope) -> str:
    """The request's id; every answer names it."""
    return str(scope["state"]["request_id"])


def new_id() -> str:
    """An id for a request that brings none."""
    return uuid.uuid4().hex


def identified(scope: Scope) -> str:
    """The request's id, given now if it has none: its own ``X-Request-ID`` or a new one."""
    asked = header(scope, b"x-request-id") or ""
    name = asked if _ID.fullmatch(asked) else new_id()
    return str(scope.setdefault("state", {}).setdefault("request_id", name))


def header(scope: Scope, name: bytes) -> str | None:
    """A header's value; several are joined as HTTP says."""
    found = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return ", ".join(found) if found else None


class Identified:
    """Gives every request an id: its own ``X-Request-ID`` if that is harmless, else a new one.

    ``GET http://host/path``, as proxies write it, is ``GET /path`` (RFC 9112, section 3.2.2).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection of ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        raw = scope.get("raw_path") or b""
        if origin := _ORIGIN.match(raw):
            path = raw[origin.end() :] or b"/"
            scope.update(raw_path=path, path=unquote(path.decode("ascii")))
        name = identified(scope)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", name.encode())]
            await send(message)

        await self.app(scope, receive, named)


class Headed:
    """Answers HEAD wherever GET is answered, as HTTP wants; the connection leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection of ASGI."""
        if scope.get("method") != "HEAD":
            await self.app(scope, receive, send)
            return
        inner = {**scope, "method": "GET"}
        try:
            await self.app(inner, receive, send)
        finally:
            scope["route"] = inner.get("route")


class Guarded:
    """Refuses what is too large, too slow or without a key, and tells every error as a problem.

    Args:
        app: the application inside.
        keys: the keys, one of which a request must bring; ``None`` to ask for none.
        server: knows how large a body may be, and how it is itself.
        max_headers: bytes of headers.
        read_seconds: within which a body must have arrived.
        protocols: in whose words errors are told.
        ending: the end of the time to drain, behind which requests are cancelled.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyFile | None,
        server: Server,
        max_headers: int,
        read_seconds: float,
        protocols: Sequence[Protocol],
        ending: Ending,
    ) -> None:
        self.app = app
        self.keys = keys
        self.server = server
        self.max_body = server.config.max_body_bytes
        self.room = Room(server.config.max_bodies * self.max_body)
        self.max_headers = max_headers
        self.read_seconds = read_seconds
        self.protocols = protocols
        self.ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection of ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        arriving = _Body(scope, receive, send, self.max_body, self.read_seconds)
        try:
            self._admit(scope)
            with self.room.shared_by(scope):
                await self.app(scope, arriving.receive, arriving.send)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            if not self.ending.over:
                raise
            self.ending.cut += 1
            arriving.give_up()
            problem = not_ready("stopping")
            tell_failure(scope, problem.reason)
            if not arriving.started:
                await self._tell(scope, arriving, problem)
        except Exception as error:
            problem = failed(scope, error, self.server.state)
            if arriving.started:
                raise  # The answer is cut off, which its reader sees; nothing else can be said.
            await self._tell(scope, arriving, problem)

    def _admit(self, scope: Scope) -> None:
        if all(header(scope, name) is not None for name in _LENGTHS):
            # Who reads by the one sees other requests than who reads by the other.
            raise malformed("Content-Length and Transfer-Encoding exclude each other; send one")
        size = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if size + len(scope.get("raw_path") or b"") + len(scope["query_string"]) > self.max_headers:
            raise RefusedError(431, f"the headers have more than {self.max_headers} bytes")
        if self.keys is not None and scope["path"] not in OPEN:
            offered = offered_keys(scope["headers"])
            if not self.keys.allows(offered):
                what = "the key is not valid" if offered else "this server asks for a key"
                raise RefusedError(401, f"{what}; send it as Authorization: Bearer or X-API-Key")
        length = header(scope, b"content-length")
        if length is not None and length.isdigit() and int(length) > self.max_body:
            raise RefusedError(413, _too_large(self.max_body))

    async def _tell(self, scope: Scope, arriving: _Body, problem: Problem) -> None:
        answer = response(spoken(problem, scope["path"], self.protocols), request_id(scope))
        for challenge in CHALLENGES if problem.status == 401 else ():
            answer.headers.append("www-authenticate", challenge)
        await answer(scope, arriving.receive, arriving.send)


class _Body:
    """One request's body while it arrives, and the answer to it.

    An answer to a body that has not arrived whole ends the connection: what else comes on it would
    be the rest of the body, for as long as its sender likes.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, most: int, seconds: float
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._most = most
        self._seconds = seconds
        self._ends_at: float | None = None
        self._size = 0
        self._expects = (header(scope, b"expect") or "").lower() == "100-continue"
        length = header(scope, b"content-length")
        chunked = header(scope, b"transfer-encoding") is not None
        self._whole = not chunked and (length is None or length == "0")
        self._late = False  # no more of it is waited for
        self.started = False

    async def receive(self) -> Message:
        """The next part of the body; once it is whole, what comes when the caller leaves.

        Raises:
            RefusedError: the body is too large, arrives too slowly, or finds no room.
        """
        if self._whole:
            return await self._receive()
        loop = asyncio.get_running_loop()
        if self._ends_at is None:
            self._ends_at = loop.time() + self._seconds
        try:
            message = await asyncio.wait_for(self._receive(), self._ends_at - loop.time())
        except asyncio.TimeoutError:
            self.give_up()
            raise RefusedError(
                408, f"the body did not arrive within {self._seconds:g} seconds"
            ) from None
        self._expects = False
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._size += size
            self._whole = not message.get("more_body", False)
            if self._size > self._most:
                raise RefusedError(413, _too_large(self._most))
            take(self._scope, size)
        else:
            self._whole = True
        return message

    def give_up(self) -> None:
        """Wait for nothing more of the body."""
        self._late = True

    async def send(self, message: Message) -> None:
        """A part of the answer."""
        if message["type"] == "http.response.start":
            self.started = True
            if not self._whole:
                await self._linger()
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        await self._send(message)

    async def _linger(self) -> None:
        """Take in what the sender is about to send anyway, within limits."""
        if self._expects or self._late:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + LINGER_SECONDS
        left = LINGER_BYTES
        while left > 0:
            try:
                message = await asyncio.wait_for(self._receive(), until - loop.time())
            except asyncio.TimeoutError:
                return
            left -= len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body", False):
                return


def _too_large(most: int) -> str:
    return f"the body has more than {most} bytes"
