"""What takes long for one caller holds up no other: neither the loop nor the threads beside it."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from answering import Answering, answering, problem
from fastapi import Request

from expertbank.errors import NotFoundError
from expertbank.http.bodies import INLINE, read
from expertbank.http.openai.stream import Writer
from expertbank.http.reported import LastReport
from expertbank.http.room import Room

MANY = 64
"""More than there are threads for what is done beside the loop."""


@pytest.mark.parametrize(
    ("body", "encoding", "aside"),
    [
        (b"{}", "", False),
        (b" " * (INLINE + 1), "", True),
        (gzip.compress(b" " * 2**20), "gzip", True),
    ],
    ids=["small", "large", "packed"],
)
def test_a_body_that_takes_long_to_read_is_read_aside(
    body: bytes, encoding: str, aside: bool
) -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-encoding", encoding.encode())] if encoding else []
    request = Request({"type": "http", "headers": headers}, receive)
    with Room(2**21).shared_by(request.scope):
        where = asyncio.run(read(request, 2**21, lambda _: threading.current_thread()))
    assert (where is not threading.main_thread()) == aside


def test_a_named_experts_file_is_read_aside_and_once_it_is_in_memory_nothing_is(
    served_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("expertbank.serving.keeper.warm", lambda state: None)
    with answering(served_home) as live:
        submit, aside = live.server.submit, list[bool]()

        def watched(*asked: Any) -> Any:
            aside.append(asyncio._get_running_loop() is None)
            return submit(*asked)

        monkeypatch.setattr(live.server, "submit", watched)
        for model, spare in (("auto", "mood"), ("mood", None), ("ticket", None), ("auto", None)):
            given = {"parameters": {"fallback": spare}} if spare else {}
            for _ in range(2):
                assert live.infer("film good", model=model, **given).status_code == 200
        assert aside == [True, False, False, False, True, False, False, False]


def test_reloads_that_wait_for_one_another_take_no_thread_from_others(
    served_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    with answering(served_home) as live, ThreadPoolExecutor(MANY) as callers:
        monkeypatch.setattr(live.server, "reload", lambda: go_on.wait(60) and None)
        try:
            reloads = [callers.submit(live.post, "/admin/reload") for _ in range(MANY)]
            long = {"input": "film good " * 1000}  # its texts are read beside the loop
            answered = httpx.post(f"{live.url}/classify", json=long, timeout=20)
        finally:
            go_on.set()
        assert answered.status_code == 200
        assert {one.result().status_code for one in reloads} == {200}


def test_pages_that_wait_for_the_report_take_no_thread_from_others() -> None:
    go_on = threading.Event()

    def make() -> None:
        go_on.wait(60)

    async def wait() -> None:
        last = LastReport(make)  # type: ignore[arg-type]  # what it makes is not looked at
        waiting = [asyncio.ensure_future(last.of(1, 60)) for _ in range(MANY)]
        await asyncio.sleep(0.1)
        await asyncio.wait_for(asyncio.to_thread(go_on.set), 20)
        assert [told.why for told in await asyncio.gather(*waiting)] == [None] * MANY

    asyncio.run(wait())


def test_of_what_is_written_only_the_latest_waits_for_a_slow_reader() -> None:
    async def write() -> list[tuple[int, str]]:
        writer = Writer(asyncio.get_running_loop())
        for length in range(1000):
            assert writer(length % 2, "a" * length)
        await asyncio.sleep(0)
        heard = writer.heard(float("inf"))
        found = [await anext(heard), await anext(heard)]
        writer.left()
        assert not writer(0, "more")
        return found

    assert asyncio.run(write()) == [(0, "a" * 998), (1, "a" * 999)]


def test_many_parameters_are_refused_and_a_long_name_is_told_by_its_beginning(
    live: Answering,
) -> None:
    asked = {"inputs": [], "parameters": {f"p{number}": 0 for number in range(1000)}}
    problem(live.post("/v2/models/auto/infer", asked), 400)
    told = problem(live.post("/classify", {"model": "x" * 10**6, "input": "film"}), 404)
    assert len(json.dumps(told)) < 2000
    assert "mood" in str(NotFoundError.of("task", "moood", ["mood"]))
