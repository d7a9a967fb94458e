"""A server over a real bank, behind the real connection handling, in threads of this process."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from fastapi import APIRouter

from expertbank import Bank
from expertbank.http.app import make_app
from expertbank.http.keys import KeyFile
from expertbank.http.limits import HttpConfig
from expertbank.http.running import address_of, bind, process
from expertbank.http.watch import Watch
from expertbank.serving.from_bank import BankSource
from expertbank.serving.limits import ServeConfig
from expertbank.serving.observer import Observer
from expertbank.serving.server import Server

QUIET = ServeConfig(reload="off", drain_seconds=5.0)


@dataclass(frozen=True)
class Answering:
    """A running server.

    Attributes:
        url: where it answers.
        server: its core.
        watch: what requests are told to.
        bank: what it answers from.
    """

    url: str
    server: Server
    watch: Watch
    bank: Bank

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def host(self) -> str:
        """Host and port, as Triton's client wants them."""
        return self.url.removeprefix("http://")

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, **options)

    def post(self, path: str, body: object = None, **options: Any) -> httpx.Response:
        """Post bytes as they are, anything else as JSON."""
        given = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx.post(self.url + path, timeout=30, **given, **options)

    def infer(self, *texts: str, model: str = "auto", **more: Any) -> httpx.Response:
        return self.post(f"/v2/models/{model}/infer", {"inputs": [text_input(*texts)], **more})

    def still_answers(self) -> None:
        """The promise behind every refusal: the next caller is served."""
        assert self.infer("film good").status_code == 200

    def raw(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made


def text_input(*texts: str) -> dict[str, Any]:
    return {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}


def outputs(response: httpx.Response) -> dict[str, dict[str, Any]]:
    """Output tensors of a JSON answer, by name."""
    assert response.status_code == 200, response.text
    return {one["name"]: one for one in response.json()["outputs"]}


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of a refusal, whose form is checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    check_problem(document, status)
    assert document["instance"].endswith(response.headers["x-request-id"])
    return document


def check_problem(document: dict[str, Any], status: int) -> None:
    assert document["status"] == status
    error = document["error"]
    assert document["detail"] == (error if isinstance(error, str) else error["message"])
    for word in ("Traceback", "/tmp", "/home", ".py", "\n"):
        assert word not in document["detail"]
    assert document["type"].startswith("urn:expertbank:problem:")


@contextmanager
def answering(
    home: Path,
    config: ServeConfig = QUIET,
    *,
    http: HttpConfig | None = None,
    keys: Path | None = None,
    started: bool = True,
    observer: Observer | None = None,
    send_buffer: int | None = None,
    engine: Callable[..., APIRouter] | None = None,
    watch: Watch | None = None,
) -> Iterator[Answering]:
    """Serve the bank at ``home``.

    Args:
        home: the bank.
        config: bounds of the core.
        http: limits of connections.
        keys: file of API keys.
        observer: told of what happens in the core; default what counts it.
        started: start the core; without it the server stays as it is before it is loaded.
        send_buffer: bytes that the system holds for a reader; default its own choice.
        engine: makes the routes of an engine that it stands in front of.
        watch: what requests are told to; default one without a log.
    """
    http = http or HttpConfig()
    with Bank.open(home, read_only=True, device="cpu") as bank, bind("127.0.0.1", 0) as made:
        if send_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        watch = watch or Watch()
        server = Server(BankSource(bank), config, observer or watch.metrics)
        held = None if keys is None else KeyFile(keys)
        front = None if engine is None else partial(engine, k=held)
        app = make_app(server, http=http, keys=held, watch=watch, engine=front)
        serving = process(app, server, http)
        if started:
            server.start()
            server.wait_ready(120)
        url = address_of(made)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [made]})
        thread.start()
        try:
            while not serving.started:
                assert thread.is_alive(), "uvicorn ended"
                time.sleep(0.005)
            yield Answering(url, server, watch, bank)
        finally:
            serving.should_exit = True
            thread.join()


def read_responses(connection: socket.socket, count: int = 1) -> list[tuple[int, bytes]]:
    """Status and body of the next answers on a connection, read as HTTP says."""
    file = connection.makefile("rb")
    found = []
    for _ in range(count):
        status = int(file.readline().split()[1])
        length, chunked = 0, False
        while (line := file.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            chunked = chunked or (name.lower() == b"transfer-encoding" and b"chunked" in value)
        body = b""
        if chunked:
            while size := int(file.readline(), 16):
                body += file.read(size)
                file.readline()
            file.readline()
        else:
            body = file.read(length)
        found.append((status, body))
    return found
