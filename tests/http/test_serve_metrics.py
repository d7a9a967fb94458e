"""Metrics, lines and spans: what they say of requests, and what they never say."""

from __future__ import annotations

import io
import json
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

import httpx
from prometheus_client.parser import text_string_to_metric_families
from served import make_bank, running

from expertbank import Bank, Row
from expertbank.data import asked_rows
from expertbank.http import metrics as of_metrics
from expertbank.http.app import make_app
from expertbank.http.lately import MOST, WINDOW, Lately
from expertbank.http.logs import RequestLog
from expertbank.http.metrics import MOST_ROUTERS, NO_ROUTER, OTHER_TASKS, Metrics
from expertbank.http.seen import GONE, NO_ROUTE, Seen, SeenMiddleware
from expertbank.http.tracing import spans
from expertbank.http.watch import Watch
from expertbank.serving.from_bank import BankSource
from expertbank.serving.server import Server

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
SECRET = "film bad and nobody else's"
SEEN = Seen("r1", "POST", "/predict", 200, 1_700_000_000_000_000_000, 0.5, rows=2)


@pytest.fixture(scope="module")
def home(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("served") / "bank"
    make_bank(home, backbone_folder("bert"))
    return home


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def served(home: Path, log: io.StringIO) -> Iterator[str]:
    """A server's address; its lines go to ``log``."""
    watch = Watch.writing_to(log)
    with Bank.open(home, read_only=True) as bank:
        server = Server(BankSource(bank), observer=watch.metrics)
        server.start()
        with running(make_app(server, watch=watch)) as address:
            server.wait_ready(60)
            yield address


def read(address: str) -> Samples:
    """Every sample, by name and labels."""
    return samples(httpx.get(f"{address}/metrics").text)


def samples(text: str) -> Samples:
    return {
        (sample.name.removeprefix("expertbank_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    return sum(
        number
        for (known, own), number in found.items()
        if known == name and frozenset(labels.items()) <= own
    )


def ask(address: str, *texts: str, **query: str) -> list[dict]:
    body = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    answer = httpx.post(
        f"{address}/predict",
        params=query,
        content=body,
        headers={"Content-Type": "application/x-ndjson"},
        timeout=60,
    )
    return [json.loads(line) for line in answer.text.splitlines()]


def lines(log: io.StringIO, count: int) -> list[dict]:
    """The lines of so many requests: each is written when its answer has been sent."""
    for _ in range(500):
        if log.getvalue().count("\n") >= count:
            break
        time.sleep(0.01)
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_every_row_and_request_is_counted_where_it_went(served: str) -> None:
    answers = ask(served, "film bad", "goal red", "cell gene")
    ask(served, "sky", task="mood")
    assert "status" in ask(served, "sky", task="nobody")[0]
    found = read(served)
    for task in {answer["task"] for answer in answers}:
        rows = sum(answer["task"] == task for answer in answers)
        assert value(found, "answers_total", task=task, router="2") >= rows
    assert value(found, "answers_total") == 4
    assert value(found, "requests_total", route="/predict", status="200") == 2
    assert value(found, "requests_total", route="/predict", status="404") == 1
    assert value(found, "failures_total", reason="not_found") == 1
    unknown = sum(answer["unknown"] is True for answer in answers)
    assert value(found, "unknown_total", router="2") >= unknown


def failures(found: Samples) -> dict[str, float]:
    """How often which reason was counted."""
    return {
        dict(labels)["reason"]: count
        for (name, labels), count in found.items()
        if name == "failures_total" and count
    }


@pytest.mark.parametrize(
    ("path", "body", "headers", "reason"),
    [
        ("/predict", [{"text": "film bad"}] * 400, {"X-Deadline-Ms": "15"}, "deadline"),
        ("/predict", {"text": "film"}, {"X-Deadline-Ms": "0.001"}, "deadline"),
        ("/predict", {"text": ""}, {}, "input"),
        ("/predict?task=pick", {"text": "film"}, {}, "input"),
        ("/classify", {"input": ""}, {}, "input"),
        ("/classify", {}, {}, "malformed"),
        ("/classify", {"input": "a"}, {"Content-Type": "text/plain"}, "media_type"),
        ("/classify", {"input": ["a"] * 600}, {}, "too_large"),
        ("/classify", {"input": "a", "model": "zz"}, {}, "not_found"),
        ("/v2/models/zz/infer", {}, {}, "not_found"),
    ],
)
def test_a_request_that_fails_is_counted_once_and_for_its_reason(
    served: str, path: str, body: object, headers: dict[str, str], reason: str
) -> None:
    assert httpx.post(served + path, json=body, headers=headers).status_code >= 400
    assert failures(read(served)) == {reason: 1}


def test_rows_that_are_left_out_are_no_failed_requests(served: str) -> None:
    rows = [{"text": "film"}, {"text": ""}, {"text": "a", "choices": ["law party", "tax match"]}]
    for task in ("mood", "pick"):
        given = {"task": task, "skip_bad": ""}
        assert httpx.post(f"{served}/predict", json=rows, params=given).status_code == 200
    assert failures(read(served)) == {}


def test_a_reader_who_leaves_in_the_middle_is_one_failure(served: str, log: io.StringIO) -> None:
    rows = [{"text": "film bad"}] * 20_000
    with httpx.stream("POST", f"{served}/predict", json=rows, timeout=30) as answer:
        assert answer.status_code == 200
        next(answer.iter_bytes())
    (told,) = lines(log, 1)
    assert (told["status"], told["reason"]) == (200, "cancelled")
    assert told["rows"] < len(rows)
    assert failures(read(served)) == {"cancelled": 1}


def test_what_is_refused_before_its_route_is_counted_under_it(served: str) -> None:
    large = {"X-Junk": "a" * 40_000}
    assert httpx.post(f"{served}/v2/models/mood/infer", headers=large).status_code == 431
    assert httpx.head(f"{served}/v2/models/mood").status_code == 200
    found = read(served)
    assert value(found, "requests_total", route="/v2/models/{name}/infer", status="431") == 1
    assert value(found, "requests_total", route="/v2/models/{name}", status="200") == 1
    assert value(found, "requests_total", route=NO_ROUTE) == 0


def test_times_and_sizes_of_queue_and_passes_are_told(served: str) -> None:
    ask(served, "film bad", "goal red")
    found = read(served)
    assert value(found, "queue_seconds_count") == 1
    assert value(found, "inference_seconds_count") == 1
    assert value(found, "batch_rows_sum") == 2
    assert value(found, "batch_tokens_sum") > 2
    assert value(found, "batch_seconds_count") == value(found, "batch_rows_count")
    assert value(found, "queued_rows_total") == 2
    assert value(found, "queue_rows") == 0
    assert value(found, "router_version") == 2
    assert ("process_resident_memory_bytes", frozenset()) in found


def test_times_at_which_series_were_made_are_not_told(served: str) -> None:
    ask(served, "film bad")
    assert [name for name, _ in read(served) if name.endswith("_created")] == []


def test_a_reload_is_counted_even_if_nothing_is_new(served: str) -> None:
    assert ("reloads_total", frozenset({("result", "ok")})) in read(served)
    assert httpx.post(f"{served}/admin/reload").json()["reloaded"] is False
    assert value(read(served), "reloads_total") == 0


def test_callers_cannot_make_series(served: str) -> None:
    for number in range(20):
        httpx.get(f"{served}/secret/{number}")
        httpx.post(f"{served}/v2/models/nobody{number}/infer", json={})
        httpx.request(f"ODD{number}", f"{served}/predict")
    found = read(served)
    routes = {dict(labels)["route"] for name, labels in found if name == "requests_total"}
    assert routes <= {NO_ROUTE, "/metrics", "/v2/models/{name}/infer", "/predict"}
    assert not any("nobody" in text for _, labels in found for _, text in labels)


def test_tasks_and_routers_have_a_bounded_number_of_series(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(of_metrics, "MOST_TASKS", 3)
    told = Metrics(process=False)
    for task in range(9):
        told.answered(f"task{task}", True, None)
    for version in range(1, 9):
        told.answered("task0", True, version)
    told.answered("task0", False, 8)
    found = samples(told.text().decode())
    assert value(found, "answers_total", router=NO_ROUTER, task=OTHER_TASKS) == 6
    versions = {dict(own)["router"] for name, own in found if name == "answers_total"}
    assert versions == {NO_ROUTER, *map(str, range(9 - MOST_ROUTERS, 9))}
    assert value(found, "answers_total", router="8") == 2
    assert value(found, "unknown_total", router="8") == 1


def test_two_servers_in_one_process_share_no_counters() -> None:
    one, other = Metrics(), Metrics()
    one.request(replace(SEEN, status=500, reason="defect"))
    assert b'failures_total{reason="internal"} 1.0' in one.text()
    assert b'failures_total{reason="internal"} 0.0' in other.text()


def test_a_request_is_one_line_that_names_it_and_holds_no_text(
    served: str, log: io.StringIO
) -> None:
    answer = httpx.post(
        f"{served}/predict",
        content=json.dumps({"text": SECRET, "text_pair": "pair of it"}),
        headers={"Content-Type": "application/json", "X-Request-ID": "mine-1"},
        timeout=60,
    )
    (told,) = [json.loads(line) for line in answer.text.splitlines()]
    (line,) = lines(log, 1)
    assert line["id"] == "mine-1"
    assert (line["method"], line["route"], line["status"]) == ("POST", "/predict", 200)
    assert line["rows"] == 1
    assert told["task"] in line["tasks"]
    assert line["router_digest"] == told["router_digest"]
    assert 0 <= line["queued_seconds"] <= line["seconds"]
    assert 0 < line["inference_seconds"] <= line["seconds"]
    assert "film" not in log.getvalue()
    assert "pair" not in log.getvalue()


def test_a_refused_request_is_a_line_with_its_reason_and_no_text(
    served: str, log: io.StringIO
) -> None:
    ask(served, SECRET, task="nobody")
    httpx.post(served, data={"text": SECRET, "model": "nobody"})
    assert [(one["status"], bool(one["reason"])) for one in lines(log, 2)] == [(404, True)] * 2
    assert "film" not in log.getvalue()


def test_texts_are_in_lines_only_where_the_server_was_told_to(home: Path, tmp_path: Path) -> None:
    log = io.StringIO()
    watch = Watch.writing_to(log, texts=True)
    with Bank.open(home, read_only=True) as bank:
        server = Server(BankSource(bank), observer=watch.metrics)
        server.start()
        with running(make_app(server, watch=watch)) as address:
            server.wait_ready(60)
            ask(address, SECRET)
            page = httpx.get(address).text
            pairs = [{"text": "a vote"}, {"text": "a law", "text_pair": "a tax"}]
            body = "".join(json.dumps(row) + "\n" for row in pairs)
            kind = {"Content-Type": "application/x-ndjson"}
            assert httpx.post(f"{address}/predict", content=body, headers=kind).status_code == 200
    single, *_, pair = lines(log, 3)
    assert single["texts"] == [SECRET]
    assert "parts" not in single
    assert (pair["texts"], pair["parts"]) == (["a vote", "a law", "a tax"], [[0, 0], [1, 0]])
    path = tmp_path / "serve.log"
    path.write_text(log.getvalue(), encoding="utf-8")
    asked = asked_rows(str(path))
    assert asked.read_from == "log"
    assert list(asked.rows) == [Row(SECRET), Row("a vote"), Row("a law", "a tax")]
    assert "This server logs what is typed" in page


def test_a_log_that_cannot_be_written_costs_lines_and_nothing_else() -> None:
    full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115 (closing it fails too)
    log = RequestLog(full)
    log(SEEN)
    log.close()
    assert log.lost == 1
    with suppress(OSError):
        full.close()
    closed = io.StringIO()
    closed.close()
    log = RequestLog(closed)
    log(SEEN)
    log.close()
    assert log.lost == 1


def test_a_reader_who_sleeps_holds_nobody_up() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        log = RequestLog(stream, most=10)
        for _ in range(1000):
            log(replace(SEEN, texts=("x" * 1000,)))
        assert log.lost > 0, "a pipe holds less than that"
        # Awake again: every line that it gets is whole.
        woken = threading.Thread(target=log.close)
        woken.start()
        got = b""
        while woken.is_alive() or select.select([reading], [], [], 0)[0]:
            if select.select([reading], [], [], 0.01)[0]:
                got += os.read(reading, 1 << 16)
        assert {len(json.loads(text)["texts"][0]) for text in got.splitlines()} == {1000}
    os.close(reading)


def test_lines_break_nowhere_whatever_stands_in_them() -> None:
    stream = io.StringIO()
    log = RequestLog(stream)
    log(replace(SEEN, texts=('a\n"b"\u2028',), tasks=("odd\ntask",)))
    log.close()
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["texts"] == ['a\n"b"\u2028']


async def _ended(app, **scope: object) -> list[Seen]:
    """What the middleware says of one request to ``app``, whether or not that fails."""
    told: list[Seen] = []

    async def nothing(*_: object) -> dict:
        return {"type": "http.request"}

    with suppress(ValueError):
        await SeenMiddleware(app, [told.append])(
            {"type": "http", "method": "GET", "headers": [], **scope}, nothing, nothing
        )
    return told


@pytest.mark.parametrize(("failing", "status"), [(True, 500), (False, GONE)])
def test_a_request_without_an_answer_is_told_too(failing: bool, status: int) -> None:
    import asyncio

    async def app(scope, receive, send) -> None:
        if failing:
            raise ValueError

    (seen,) = asyncio.run(_ended(app, method="BREW"))
    assert (seen.status, seen.method, seen.route) == (status, "OTHER", NO_ROUTE)
    assert seen.reason == ("defect" if failing else "cancelled")


def test_only_the_last_minute_counts_as_lately() -> None:
    now = [0.0]
    lately = Lately(lambda: now[0])
    lately(replace(SEEN, seconds=9.0))
    now[0] = WINDOW / 2
    for number in range(100):
        lately(replace(SEEN, seconds=number / 1000))
    lately(replace(SEEN, status=429, rows=0, reason="queue-full"))
    lately(replace(SEEN, status=503, rows=0, reason="not-ready"))
    lately(replace(SEEN, route="/metrics", rows=0))
    now[0] = WINDOW + 1
    found = lately.figures()
    assert (found.requests, found.rows, found.refused, found.failed) == (102, 200, 1, 1)
    assert found.median == pytest.approx(0.05, abs=0.002)
    assert found.slow == pytest.approx(0.099, abs=0.002)
    now[0] = 3 * WINDOW
    assert lately.figures().median is None
    for _ in range(MOST + 10):
        lately(SEEN)
    assert lately.figures().requests == MOST, "memory does not grow with requests"


def test_spans_are_the_callers_children_and_have_the_times_that_were_measured() -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    sink = spans(provider)
    assert sink is not None
    trace = "0af7651916cd43dd8448eb211c80319c"
    asked = replace(
        SEEN,
        queued_seconds=0.1,
        inference_seconds=0.2,
        traceparent=f"00-{trace}-b7ad6b7169203331-01",
        texts=(SECRET,),
        router_version=2,
    )
    sink(asked)
    queue, inference, request = kept.get_finished_spans()
    assert request.name == "POST /predict"
    assert f"{request.context.trace_id:032x}" == trace
    assert request.parent is not None
    assert {queue.parent.span_id, inference.parent.span_id} == {request.context.span_id}
    assert request.end_time - request.start_time == pytest.approx(0.5e9)
    assert inference.end_time - inference.start_time == pytest.approx(0.2e9)
    assert request.start_time <= queue.start_time < queue.end_time == inference.start_time
    assert request.attributes["expertbank.router_version"] == 2
    assert SECRET not in str([span.to_json() for span in kept.get_finished_spans()])


def test_without_opentelemetry_there_are_no_spans_and_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert spans() is None
    assert Watch.writing_to(io.StringIO()).spans is None
