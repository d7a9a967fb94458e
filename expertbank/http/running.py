"""One process that serves: a socket, uvicorn over the application, and how it ends.

SIGTERM and Ctrl-C end it well: no new connections, what is under way is answered, exit code 0.
SIGHUP has it look for what is new.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import math
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from expertbank.errors import ExpertBankError, InputError
from expertbank.http.connection import connection
from expertbank.http.ending import Ending
from expertbank.http.limits import HttpConfig
from expertbank.serving.errors import NotReadyError
from expertbank.serving.faults import sentence_of
from expertbank.serving.live import ServingState
from expertbank.serving.server import Server

_log = logging.getLogger(__name__)
_BACKLOG = 2048
"""Connections that the system holds while the server is busy."""
_TO_BE_TOLD = 1.0
"""Seconds in which callers are told that they will not be answered."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ADVICE = {
    errno.EADDRINUSE: "it is in use; choose another with --port",
    errno.EACCES: "that is not allowed; choose one above 1023 with --port",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0 takes a free one.

    Raises:
        InputError: the address cannot be had.
    """
    try:
        kind, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # With its protocol named, for asyncio sends small parts at once (TCP_NODELAY) only then;
        # else every answer waits for its reader's delayed acknowledgement, some 40 ms.
        made = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(_BACKLOG)  # only now is it known that nobody else does
        except OSError:
            made.close()
            raise
    except (OSError, UnicodeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        why = _ADVICE.get(number or 0) or getattr(error, "strerror", None) or "no such address"
        raise InputError(f"cannot listen at {host}, port {port}: {why}") from error
    made.setblocking(False)
    return made


def address_of(made: socket.socket) -> str:
    """The URL of what listens at a socket."""
    host, port = made.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Process(uvicorn.Server):
    """uvicorn's server, for which a signal is the usual end and no failure.

    Args:
        config: what to serve, and how.
        server: what answers. It is stopped when its time to drain is over, so that who still waits
            is told why, before uvicorn cuts the connection.
        ending: comes then, for those who wait for an engine.
    """

    def __init__(self, config: uvicorn.Config, server: Server, ending: Ending) -> None:
        super().__init__(config)
        self._answering = server
        self.ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what is under way end."""
        late = asyncio.create_task(self._stop_late())
        try:
            await super().shutdown(sockets)
        finally:
            late.cancel()

    async def _stop_late(self) -> None:
        await asyncio.sleep(self._answering.config.drain_seconds)
        self.ending.come()
        await asyncio.to_thread(self._answering.stop)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, and wait for nothing that is still being loaded."""
        self._answering.hurry()
        super().handle_exit(sig, frame)

    def _reload(self, sig: int, frame: FrameType | None) -> None:
        threading.Thread(target=self._look, name="expertbank-reload", daemon=True).start()

    def _look(self) -> None:
        try:
            found = self._answering.reload()
        except Exception as error:  # noqa: BLE001  # a thread that ends must not go unseen
            _log.error("SIGHUP: nothing was reloaded: %s", sentence_of(error))
        else:
            told = "nothing is new" if found is None else f"state {found.number} is served"
            _log.info("SIGHUP: %s", told)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take signals as the wish to stop; uvicorn would raise them again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        if hasattr(signal, "SIGHUP"):
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._reload)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def process(app: FastAPI, server: Server, http: HttpConfig) -> Process:
    """What serves an application over ``server``, ready to run."""
    config = uvicorn.Config(
        app,
        http=connection(http, app.state.sinks),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=http.keep_alive_seconds,
        timeout_graceful_shutdown=math.ceil(server.config.drain_seconds + _TO_BE_TOLD),
        h11_max_incomplete_event_size=http.max_header_bytes,
    )
    return Process(config, server, app.state.ending)


def run(
    server: Server,
    app: FastAPI,
    listening: socket.socket,
    http: HttpConfig,
    ready: Callable[[ServingState], None],
) -> int:
    """Serve until a signal says to stop, and say how many requests went unanswered.

    Args:
        server: which is started here; the application drains and stops it.
        app: over it.
        listening: where.
        http: limits of connections.
        ready: told, from another thread, once rows can be answered.

    Raises:
        ExpertBankError: the first state could not be loaded, so nothing was served.
    """
    serving = process(app, server, http)
    failed: list[ExpertBankError] = []

    def wait() -> None:
        try:
            ready(server.wait_ready())
        except NotReadyError:
            return  # stopped before it was ready
        except ExpertBankError as error:
            failed.append(error)
            serving.should_exit = True

    server.start()
    threading.Thread(target=wait, name="expertbank-ready", daemon=True).start()
    try:
        serving.run(sockets=[listening])
    finally:
        server.stop()  # again, where the application did not come to it
    if failed:
        raise failed[0]
    return server.given_up + serving.ending.cut
