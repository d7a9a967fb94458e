"""An S3 of the tests' own over real HTTP (moto's server), and a proxy in front of it that fails."""

from __future__ import annotations

import http.client
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "s3cr3t-key",
    "AWS_SESSION_TOKEN": "s3cr3t-token",
    "AWS_DEFAULT_REGION": "us-east-1",
}
"""Credentials as obstore reads them; moto takes any."""
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=AKTESTTESTTEST/20260101/us-east-1/s3/"
    "aws4_request, SignedHeaders=host, Signature=0"
}
FAULTS = ("drop", "drop-answer", "delay", "truncate", "500", "503", "garbage")
"""What the proxy can do to a request, and a second attempt of it may survive."""
EXPIRED = (
    b'<?xml version="1.0"?><Error><Code>ExpiredToken</Code><Message>The provided token has '
    b"expired.</Message><Token-0>s3cr3t-token</Token-0></Error>"
)


class Bucket:
    """A bucket on a server."""

    def __init__(self, port: int, name: str) -> None:
        self.port = port
        self.name = name
        self._ask("PUT", "")

    def url(self, prefix: str, *, port: int | None = None) -> str:
        endpoint = f"http://127.0.0.1:{port or self.port}"
        return f"s3://{self.name}/{prefix}?endpoint={endpoint}"

    def write(self, name: str, data: bytes) -> None:
        """Put an object as somebody else would."""
        self._ask("PUT", name, data)

    def _ask(self, method: str, name: str, data: bytes | None = None) -> bytes:
        address = f"http://127.0.0.1:{self.port}/{self.name}/{name}"
        asked = urllib.request.Request(address, data=data, method=method, headers=SIGNED)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            body: bytes = answer.read()
            return body


@contextmanager
def running() -> Iterator[int]:
    """The port of a server."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that was killed is no matter."""


class FaultProxy:
    """Hands requests on to a server, but those for which ``fault`` names one of ``FAULTS``.

    Attributes:
        fault: given the request's number, method and path; ``None`` to leave it alone.
        seen: method and path of every request so far.
        ignored: a header that is left out, as by a server that does not know it.
    """

    def __init__(self, port: int) -> None:
        self.fault: Callable[[int, str, str], str | None] = lambda number, method, path: None
        self.seen: list[tuple[str, str]] = []
        self.ignored = ""
        self.target = port
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def number(self, method: str, path: str) -> int:
        with self._lock:
            self.seen.append((method, path))
            return len(self.seen) - 1

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.fault(proxy.number(self.command, self.path), self.command, self.path)
            if fault == "drop":
                return self.cut()
            if fault in {"500", "503"}:
                return self.answer(int(fault), b"<Error><Code>SlowDown</Code></Error>")
            if fault == "expired":
                return self.answer(403, EXPIRED)
            if fault == "delay":
                time.sleep(0.2)
            status, headers, answer = self.forward(body)
            if fault == "drop-answer":
                return self.cut()
            if fault == "truncate":
                self.answer(status, answer, headers, len(answer) // 2)
                return self.cut()
            if fault == "garbage":
                self.wfile.write(b"not http at all\r\n\r\n")
                return self.cut()
            return self.answer(status, answer, headers)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815

        def forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            there = http.client.HTTPConnection("127.0.0.1", proxy.target, timeout=60)
            try:
                ignored = proxy.ignored.lower()
                headers = {n: v for n, v in self.headers.items() if n.lower() != ignored}
                there.request(self.command, self.path, body, headers)
                answer = there.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            finally:
                there.close()

        def answer(
            self,
            status: int,
            body: bytes,
            headers: list[tuple[str, str]] | None = None,
            cut: int | None = None,
        ) -> None:
            self.send_response_only(status)
            head = self.command == "HEAD"
            for name, value in headers or []:
                low = name.lower()
                if low not in {"connection", "transfer-encoding"} and (
                    head or low != "content-length"
                ):
                    self.send_header(name, value)
            if not head:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not head:
                self.wfile.write(body if cut is None else body[:cut])

        def cut(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    return Handler


@contextmanager
def failing(port: int) -> Iterator[FaultProxy]:
    """A proxy in front of the server at ``port``."""
    proxy = FaultProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
