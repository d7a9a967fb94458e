"""The bodies of all requests together take no more memory than they may, and give it back."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from answering import QUIET, Answering, answering, problem

from expertbank.http.problems import RefusedError
from expertbank.http.room import Room, take

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def narrow(served_home: Path) -> Iterator[Answering]:
    """A server in which one body of the largest size fills the memory for bodies."""
    config = replace(QUIET, max_body_bytes=MEGABYTE, max_bodies=1)
    with answering(served_home, config) as found:
        yield found


def half_sent(live: Answering, size: int) -> socket.socket:
    """A request for which so many bytes of its body have arrived, and not the last one."""
    made = live.raw()
    head = "POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    made.sendall(f"{head}Content-Length: {size + 1}\r\n\r\n".encode() + b" " * size)
    return made


def large(size: int) -> bytes:
    return json.dumps({"input": "film good", "user": "x" * size}).encode()


def until(live: Answering, status: int, body: bytes, **headers: str) -> None:
    """Ask until the answer has this status: what is sent elsewhere has arrived by then."""
    ends = time.monotonic() + 20
    while (found := ask(live, body, **headers)).status_code != status:
        assert time.monotonic() < ends, found.text
        time.sleep(0.02)


def ask(live: Answering, body: bytes, **headers: str) -> httpx.Response:
    return live.post("/classify", body, headers={"content-type": "application/json", **headers})


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_bodies_that_do_not_fit_beside_others_are_refused_until_those_have_ended(
    narrow: Answering, encoding: str
) -> None:
    body = gzip.compress(large(MEGABYTE // 2)) if encoding == "gzip" else large(MEGABYTE // 2)
    sent = {"content-encoding": encoding}
    assert ask(narrow, body, **sent).status_code == 200
    with half_sent(narrow, MEGABYTE * 3 // 4):
        until(narrow, 429, body, **sent)
        refused = ask(narrow, body, **sent)
        assert "memory" in problem(refused, 429)["detail"]
        assert refused.headers["retry-after"] == "1"
        narrow.still_answers()  # a small one fits
    until(narrow, 200, body, **sent)


def test_what_a_request_took_is_given_back_whatever_became_of_it() -> None:
    room, scope = Room(10), dict[str, Any]()
    with room.shared_by(scope):
        take(scope, 10)
        with pytest.raises(RefusedError):
            take(scope, 1)
    with room.shared_by(scope):
        take(scope, 10)
