"""A proxy in front of PostgreSQL that counts what clients send, and cuts where it is told to."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

CUTS = ("before", "after", "half", "reset")
"""Before a message reaches the server, after it did and before its answer comes back, in the
middle of the message, and with a reset instead of an end."""

_AT_ONCE = struct.pack("ii", 1, 0)
"""A socket that is closed so sends a reset."""


class CuttingProxy:
    """Passes bytes on; every message of a client to the server is numbered.

    A message is what a client sends at once: a statement with what goes with it.

    Attributes:
        at: given a message's number; one of ``CUTS`` to cut there, ``None`` to pass it on.
        sent: how many messages came so far.
    """

    def __init__(self, port: int) -> None:
        self.at: Callable[[int], str | None] = lambda number: None
        self.sent = 0
        self.target = port
        self._closed = False
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._closed:
            with suppress(OSError):  # a client may be gone before it is served
                client, _ = self._server.accept()
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        dead = threading.Event()
        for one in (client, server):
            self._open.add(one)
            with suppress(OSError):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for work in (self._up, self._down):
            threading.Thread(target=work, args=(client, server, dead), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, dead: threading.Event) -> None:
        try:
            while data := client.recv(1 << 20):
                with self._lock:
                    number = self.sent
                    self.sent += 1
                cut = self.at(number)
                if cut is None:
                    server.sendall(data)
                    continue
                if cut == "half":
                    server.sendall(data[: len(data) // 2])
                elif cut == "after":
                    dead.set()  # whatever is answered is not passed on
                    server.sendall(data)
                    time.sleep(0.02)  # the server gets to see it before the connection ends
                elif cut == "reset":
                    for one in (client, server):
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                break
        except OSError:
            pass  # one of the two is gone
        finally:
            self._end(client, server)

    def _down(self, client: socket.socket, server: socket.socket, dead: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 20):
                if dead.is_set():
                    break
                client.sendall(data)
        self._end(client, server)

    def _end(self, *both: socket.socket) -> None:
        for one in both:
            self._open.discard(one)
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                one.close()

    def close(self) -> None:
        self._closed = True
        self._server.close()
        self._end(*list(self._open))


@contextmanager
def cutting(port: int) -> Iterator[CuttingProxy]:
    """A proxy in front of the server at ``port``."""
    proxy = CuttingProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
