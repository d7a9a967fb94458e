"""Connections as no client library makes them: slow, half-open, broken off, pipelined, no HTTP."""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from answering import (
    QUIET,
    Answering,
    answering,
    check_problem,
    problem,
    read_responses,
    text_input,
)

from expertbank.http.limits import HttpConfig
from expertbank.http.watch import Watch
from expertbank.serving.observer import Observer

INFER = json.dumps({"inputs": [text_input("film bad")], "outputs": [{"name": "task"}]}).encode()


def _request(body: bytes = INFER, path: str = "/v2/models/mood/infer", *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def _chunked(*parts: bytes) -> bytes:
    head = b"POST /v2/models/mood/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


@pytest.fixture(scope="module")
def hasty(served_home: Path) -> Iterator[Answering]:
    """A server that waits for nobody for long."""
    limits = HttpConfig(read_seconds=0.5, keep_alive_seconds=1, max_header_bytes=4096)
    with answering(served_home, http=limits) as found:
        yield found


def _refused(connection: socket.socket, status: int) -> None:
    ((found, body),) = read_responses(connection)
    assert found == status
    check_problem(json.loads(body), status)
    assert connection.recv(1) == b"", "the connection stayed open"


def test_a_chunked_body_is_read(live: Answering) -> None:
    with live.raw() as connection:
        connection.sendall(_chunked(INFER[:10], INFER[10:11], INFER[11:]) + b"0\r\n\r\n")
        ((status, body),) = read_responses(connection)
    assert status == 200
    assert json.loads(body)["outputs"][0]["data"] == ["mood"]


def test_pipelined_requests_are_answered_in_order(live: Answering) -> None:
    with live.raw() as connection:
        bad = _request(b"{}")
        connection.sendall(_request() + bad + _chunked(INFER) + b"0\r\n\r\n" + _request())
        found = read_responses(connection, 4)
    assert [status for status, _ in found] == [200, 400, 200, 200]


def test_a_request_that_comes_byte_by_byte_is_answered(live: Answering) -> None:
    with live.raw() as connection:
        for byte in _request():
            connection.sendall(bytes([byte]))
        ((status, _),) = read_responses(connection)
    assert status == 200


def test_a_connection_that_says_nothing_is_closed_and_nobody_told(hasty: Answering) -> None:
    before = _counted(hasty)
    with hasty.raw() as connection:
        assert connection.recv(1) == b""
    assert _counted(hasty) == before
    hasty.still_answers()


def _counted(live: Answering) -> dict[str, float]:
    """Requests that came to no route, by status, and failures by reason."""
    lines = live.watch.metrics.text().decode().splitlines()
    found = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {
        name: float(count)
        for name, _, count in found
        if "_total{" in name and ('route="(none)"' in name or "failures" in name)
    }


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (b"GET /v2 HT", 408, "slow"),
        (b"HELLO\r\n\r\n", 400, "malformed"),
        (b"GET /v2 HTTP/1.1\r\nX-Big: " + b"a" * 5_000, 431, "headers"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "refused"),
    ],
)
def test_what_a_connection_refuses_is_counted_logged_and_has_an_id(
    served_home: Path, sent: bytes, status: int, reason: str
) -> None:
    log = io.StringIO()
    limits = HttpConfig(read_seconds=0.3, max_header_bytes=4096)
    with answering(served_home, http=limits, watch=Watch.writing_to(log)) as live:
        with live.raw() as connection:
            connection.sendall(sent)
            told = b""
            while part := connection.recv(65536):
                told += part
        head, _, document = told.partition(b"\r\n\r\n")
        found = _counted(live)
        live.watch.log.close()
    name = re.search(rb"x-request-id: (\w+)", head).group(1).decode()
    assert json.loads(document)["instance"].endswith(name)
    (line,) = [json.loads(one) for one in log.getvalue().splitlines()]
    assert (line["id"], line["status"], line["reason"]) == (name, status, reason)
    assert 0 <= line["seconds"] < 5
    assert found[f'expertbank_requests_total{{route="(none)",status="{status}"}}'] == 1
    failed = {name: count for name, count in found.items() if "failures" in name and count}
    assert failed == {f'expertbank_failures_total{{reason="{reason}"}}': 1}


def test_a_request_whose_body_is_no_http_is_counted_once_under_its_route(
    served_home: Path,
) -> None:
    with answering(served_home) as live:
        with live.raw() as connection:
            connection.sendall(_chunked(b"{") + b"zz\r\nxx\r\n")
            _refused(connection, 400)
        live.still_answers()
        text = live.watch.metrics.text().decode()
    name = 'requests_total{route="/v2/models/{name}/infer",status='
    assert f'{name}"400"}} 1.0' in text
    assert f'{name}"499"' not in text
    assert 'failures_total{reason="malformed"} 1.0' in text
    assert 'failures_total{reason="cancelled"} 0.0' in text


def test_a_body_with_two_lengths_is_refused_and_nothing_behind_it_read(live: Answering) -> None:
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(INFER), INFER)
    head = b"POST /v2/models/mood/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    with live.raw() as connection:
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + length + body + _request())
        _refused(connection, 400)
    live.still_answers()


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://elsewhere:8000/v2/health/live", 200),
        ("HTTPS://elsewhere/v2/models/mood?x=1", 200),
        ("http://elsewhere", 200),
        ("http://elsewhere?x=http://y/z", 200),
        ("ftp://elsewhere/v2", 404),
        ("http://elsewhere/nope", 404),
    ],
)
def test_a_target_that_names_scheme_and_host_is_its_path(
    live: Answering, target: str, status: int
) -> None:
    with live.raw() as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        ((found, _),) = read_responses(connection)
    assert found == status


def test_a_key_is_asked_for_whatever_the_form_of_the_target(
    served_home: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-some-length\n")
    with answering(served_home, keys=keys) as live, live.raw() as connection:
        for path, status in (("/v2/health/live", 200), ("/v2", 401)):
            connection.sendall(f"GET http://x{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            ((found, _),) = read_responses(connection)
            assert found == status


def test_a_head_that_drips_is_refused(hasty: Answering) -> None:
    stopped = threading.Event()
    with hasty.raw() as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\n")

        def drip() -> None:
            while not stopped.wait(0.05):
                try:
                    connection.sendall(b"X-A: b\r\n")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        ((status, _),) = read_responses(connection)
        stopped.set()
        dripping.join()
    assert status == 408
    hasty.still_answers()


def test_the_second_head_of_a_connection_has_its_time_too(hasty: Answering) -> None:
    with hasty.raw() as connection:
        connection.sendall(_request() + b"GET /v2 HT")
        (first, second) = read_responses(connection, 2)
    assert (first[0], second[0]) == (200, 408)


def test_a_body_that_does_not_arrive_is_refused(hasty: Answering) -> None:
    with hasty.raw() as connection:
        connection.sendall(_request()[:-5])
        _refused(connection, 408)
    hasty.still_answers()


def test_a_body_that_drips_is_refused(hasty: Answering) -> None:
    with hasty.raw() as connection:
        connection.sendall(_chunked(b"{"))
        for _ in range(40):
            time.sleep(0.02)
            try:
                connection.sendall(b"1\r\n \r\n")
            except OSError:
                break
        ((status, _),) = read_responses(connection)
    assert status == 408
    hasty.still_answers()


def test_a_chunked_body_that_grows_too_large_is_refused(live: Answering) -> None:
    part = b"x" * 100_000
    with live.raw() as connection:
        connection.sendall(_chunked(*[part] * 50) + b"0\r\n\r\n")
        ((status, body),) = read_responses(connection)
    assert status == 413
    check_problem(json.loads(body), 413)
    live.still_answers()


def test_a_body_without_end_does_not_keep_a_refused_connection(live: Answering) -> None:
    part = b"%x\r\n%s\r\n" % (2**20, b"x" * 2**20)
    sent = 0
    with live.raw() as connection:
        connection.sendall(_chunked())
        try:
            while sent < 400:
                connection.sendall(part)
                sent += 1
        except OSError:
            pass
    assert sent < 400
    live.still_answers()


@pytest.mark.parametrize("size", [5_000, 60_000, 300_000])
def test_large_headers_are_refused(hasty: Answering, size: int) -> None:
    with hasty.raw() as connection:
        with suppress(OSError):  # refused before all of it was taken
            connection.sendall(_request(INFER, "/v2/models/mood/infer", "X-Big: " + "a" * size))
        try:
            ((status, body),) = read_responses(connection)
        except ConnectionResetError:
            pytest.skip("the system dropped the answer with what was not read")
    assert status == 431
    check_problem(json.loads(body), 431)
    hasty.still_answers()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"HELLO\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40 + b"\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
def test_what_is_no_http_is_refused(live: Answering, sent: bytes, status: int) -> None:
    with live.raw() as connection:
        connection.sendall(sent)
        _refused(connection, status)
    live.still_answers()


def test_a_chunk_that_is_none_is_refused(live: Answering) -> None:
    with live.raw() as connection:
        connection.sendall(_chunked(b"{") + b"zz\r\nxx\r\n")
        _refused(connection, 400)
    live.still_answers()


def test_expect_100_continue_is_answered_before_the_body(live: Answering) -> None:
    head, body = _request(INFER, "/v2/models/mood/infer", "Expect: 100-continue").split(b"\r\n\r\n")
    with live.raw() as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        ((status, _),) = read_responses(connection)
    assert status == 200


def test_a_refusal_needs_no_body_from_who_waits_to_send_it(live: Answering) -> None:
    with live.raw() as connection:
        connection.sendall(
            b"POST /v2/models/mood/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        _refused(connection, 413)


def test_callers_that_break_off_cost_nobody_an_answer(live: Answering) -> None:
    for cut in (1, 20, len(_request()) - 3):
        for _ in range(5):
            with live.raw() as connection:
                connection.sendall(_request()[:cut])
    live.still_answers()


def test_the_work_of_a_caller_who_left_is_not_done(served_home: Path) -> None:
    config = replace(QUIET, max_wait_ms=3_000, max_batch_rows=64)
    with answering(served_home, config) as live:
        with live.raw() as connection:
            connection.sendall(_request())
            while not live.server.waiting_rows:
                time.sleep(0.005)
        before = time.monotonic()
        while live.server.waiting_rows and time.monotonic() < before + 2.5:
            time.sleep(0.005)
        assert live.server.waiting_rows == 0
        live.still_answers()
        answers = [
            line for line in live.get("/metrics").text.splitlines() if "answers_total{" in line
        ]
        assert sum(float(line.split()[-1]) for line in answers) == 1


def test_a_full_queue_is_told_with_a_time_to_come_again(served_home: Path) -> None:
    config = replace(QUIET, queue_rows=2, max_rows=2, max_wait_ms=1_000, max_batch_rows=64)
    with answering(served_home, config) as live, live.raw() as connection:
        two = json.dumps({"inputs": [text_input("film bad", "film good")]}).encode()
        connection.sendall(_request(two))
        while not live.server.waiting_rows:
            time.sleep(0.005)
        refused = live.infer("film bad")
        problem(refused, 429)
        assert int(refused.headers["retry-after"]) >= 1
        ((status, _),) = read_responses(connection)
        assert status == 200


def test_readiness_follows_the_core_and_liveness_the_process(
    served_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(served_home, started=False) as live:
        assert live.get("/v2/health/live").status_code == 200
        told = live.get("/v2/health/ready")
        problem(told, 503)
        assert "retry-after" in told.headers
        problem(live.get("/v2/models/mood/ready"), 503)
        problem(live.infer("film bad"), 503)
        assert [one for one in caplog.records if one.levelno > logging.INFO] == []
        live.server.start()
        live.server.wait_ready(120)
        assert live.get("/v2/health/ready").status_code == 200
        live.server.drain(0)
        problem(live.get("/v2/health/ready"), 503)
        problem(live.infer("film bad"), 503)
        assert live.get("/v2/health/live").status_code == 200


class _Deadly(Observer):
    """Ends the thread that answers, at its first pass."""

    def __init__(self) -> None:
        self.deaths = 1

    def batch(self, rows: int, tokens: int, seconds: float) -> None:
        if self.deaths:
            self.deaths -= 1
            raise SystemExit("killed")


def test_a_worker_that_dies_is_503_until_another_has_taken_its_place(served_home: Path) -> None:
    config = replace(QUIET, reload_seconds=1)
    with answering(served_home, config, observer=_Deadly()) as live:
        problem(live.infer("film bad"), 503)
        problem(live.get("/v2/health/ready"), 503)
        problem(live.infer("film bad"), 503)
        assert live.get("/v2/health/live").status_code == 200
        until = time.monotonic() + 30
        while live.get("/v2/health/ready").status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.05)
        live.still_answers()


def test_stopping_answers_what_is_under_way(served_home: Path) -> None:
    config = replace(QUIET, max_wait_ms=500, max_batch_rows=64)
    found: list[int] = []
    with answering(served_home, config) as live:
        url = live.url + "/v2/models/mood/infer"
        asking = threading.Thread(
            target=lambda: found.append(httpx.post(url, content=INFER, timeout=30).status_code)
        )
        asking.start()
        while not live.server.waiting_rows:
            time.sleep(0.005)
    asking.join()
    assert found == [200]


def test_who_asks_for_another_protocol_gets_http_and_the_log_no_advice(
    live: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    asked = b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with live.raw() as connection:
        connection.sendall(asked)
        ((status, _),) = read_responses(connection)
    assert status == 200
    assert caplog.text == ""


def test_a_sender_whom_a_stop_does_not_wait_for_is_told_so(
    served_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(served_home, replace(QUIET, drain_seconds=0.2)) as live:
        sender = live.raw()
        sender.sendall(_request(INFER)[:-5])
        counted = live.watch.metrics
        live.still_answers()
    with sender:
        ((status, body),) = read_responses(sender)
    check_problem(json.loads(body), status)
    assert status == 503
    assert "stopping" in json.loads(body)["detail"]
    assert b'failures_total{reason="not_ready"} 1.0' in counted.text()
    assert "Traceback" not in caplog.text


def test_a_reader_who_takes_little_at_a_time_gets_all_of_it(served_home: Path) -> None:
    limits = HttpConfig(read_seconds=1)
    asked = json.dumps({"inputs": [text_input(*["film bad"] * 512)]}).encode()
    with answering(served_home, http=limits, send_buffer=4096) as live, socket.socket() as reader:
        length = len(live.post("/v2/models/mood/infer", asked).content)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", live.port))
        reader.settimeout(60)
        reader.sendall(_request(asked))
        begun, found = time.monotonic(), b""
        while found.find(b"\r\n\r\n") < 0 or len(found.partition(b"\r\n\r\n")[2]) < length:
            part = reader.recv(2048)
            assert part, f"cut off after {len(found)} of {length} bytes"
            found += part
            time.sleep(0.01)
        assert time.monotonic() - begun > 2 * limits.read_seconds


def test_a_reader_who_takes_nothing_is_let_go(served_home: Path) -> None:
    limits = HttpConfig(read_seconds=0.3)
    asked = json.dumps({"inputs": [text_input(*["film bad"] * 512)]}).encode()
    with answering(served_home, http=limits, send_buffer=4096) as live, socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", live.port))
        reader.settimeout(60)
        reader.sendall(_request(asked))
        length = len(live.post("/v2/models/mood/infer", asked).content)
        time.sleep(4 * limits.read_seconds)
        found = 0
        with suppress(ConnectionResetError):
            while part := reader.recv(2**20):
                found += len(part)
        assert 0 < found < length
        live.still_answers()
