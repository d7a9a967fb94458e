"""What waits: how much may, for how long, and what becomes of it when nobody wants it any more.

The worker waits for more rows before it begins (``max_wait_ms``), so what is queued stays queued.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from time import monotonic, sleep

import pytest
from serving_bank import ask

from expertbank import Bank, Row
from expertbank.errors import InputError
from expertbank.serving.asking import Ask
from expertbank.serving.errors import DeadlineError, NotReadyError, QueueFullError, TooLargeError
from expertbank.serving.from_bank import BankSource
from expertbank.serving.limits import ServeConfig
from expertbank.serving.observer import Observer
from expertbank.serving.server import Server

MakeServer = Callable[..., Server]


class Counts(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.rows = 0
        self.depths: list[int] = []
        self.done: list[int] = []

    def batch(self, rows: int, tokens: int, seconds: float) -> None:
        self.batches.append((rows, tokens))

    def queued(self, rows: int, tokens: int) -> None:
        self.rows += rows

    def depth(self, rows: int) -> None:
        self.depths.append(rows)

    def finished(self, rows: int, queued_seconds: float, inference_seconds: float) -> None:
        self.done.append(rows)


@pytest.fixture
def serve(bank: Bank) -> Iterator[MakeServer]:
    made: list[Server] = []

    def begin(**options: object) -> Server:
        config = ServeConfig(**{"reload": "off", "max_wait_ms": 10_000, **options})  # type: ignore[arg-type]
        server = Server(BankSource(bank), config, Counts())
        made.append(server)
        server.start()
        server.wait_ready(60)
        return server

    yield begin
    for server in made:
        server.stop()


def test_what_does_not_fit_is_refused_whole_with_a_time_to_come_again(serve: MakeServer) -> None:
    server = serve(queue_rows=8, max_rows=8)
    waiting = server.submit(ask(5))
    with pytest.raises(QueueFullError) as caught:
        server.submit(ask(4))
    assert caught.value.retry_after > 0
    assert server.waiting_rows == 5, "nothing of it was queued"
    more = server.submit(ask(3))
    assert server.drain(60)
    assert len(waiting.result(0).predictions) == 5
    assert len(more.result(0).predictions) == 3


def test_more_rows_than_a_request_may_bring_are_refused_as_too_large(serve: MakeServer) -> None:
    server = serve(queue_rows=8, max_rows=4)
    with pytest.raises(TooLargeError):
        server.submit(ask(5))


def test_a_request_that_could_never_be_queued_is_a_wrong_setting() -> None:
    with pytest.raises(InputError, match="cannot exceed queue_rows"):
        ServeConfig(queue_rows=8, max_rows=9)


def test_a_cancelled_request_leaves_the_queue_at_once_and_is_not_done(serve: MakeServer) -> None:
    server = serve(queue_rows=8, max_rows=8)
    gone, kept = server.submit(ask(6)), server.submit(ask(2))
    assert gone.cancel()
    assert server.waiting_rows == 2
    again = server.submit(ask(6))
    assert server.drain(60)
    assert (len(kept.result(0).predictions), len(again.result(0).predictions)) == (2, 6)
    with pytest.raises(CancelledError):
        gone.result(0)
    counts = server.observer
    assert isinstance(counts, Counts)
    assert sum(rows for rows, _ in counts.batches) == 8


def test_a_large_request_cancelled_half_way_is_not_finished(bank: Bank) -> None:
    server = Server(BankSource(bank), ServeConfig(reload="off", max_batch_rows=2), Counts())
    server.start()
    server.wait_ready(60)
    future = server.submit(ask(512))
    while server.waiting_rows == 512:
        pass
    assert future.cancel()
    assert server.drain(60)
    server.stop()
    assert sum(rows for rows, _ in server.observer.batches) < 512  # type: ignore[attr-defined]


def test_a_request_whose_deadline_passes_in_the_queue_fails_then_and_is_not_done(
    serve: MakeServer,
) -> None:
    server = serve()
    begun = monotonic()
    future = server.submit(ask(3), begun + 0.2)
    with pytest.raises(DeadlineError):
        future.result(30)
    assert 0.2 <= monotonic() - begun < 9
    assert server.waiting_rows == 0
    assert server.observer.batches == []  # type: ignore[attr-defined]


def test_the_configured_deadline_holds_for_a_request_that_names_none(serve: MakeServer) -> None:
    future = serve(deadline_ms=100).submit(ask())
    with pytest.raises(DeadlineError):
        future.result(30)


def test_an_answer_that_would_come_too_late_is_refused_before_it_waits(serve: MakeServer) -> None:
    server = serve(max_batch_rows=32)
    server.submit(ask(64)).result(60)  # measures two full passes
    assert server.rows_per_second is not None
    waiting = server.submit(ask(20))
    with pytest.raises(QueueFullError) as caught:
        server.submit(ask(20), monotonic() + 10 / server.rows_per_second)  # 40 are to be done
    assert 0 < caught.value.retry_after < 60
    assert server.drain(60)
    assert len(waiting.result(0).predictions) == 20


def test_rows_that_wait_share_passes_and_a_pass_is_never_too_large(serve: MakeServer) -> None:
    server = serve(max_batch_rows=16, max_batch_tokens=80)
    futures = [server.submit(ask(3, seed=seed)) for seed in range(20)]
    assert server.drain(60)
    assert all(len(future.result(0).predictions) == 3 for future in futures)
    counts = server.observer
    assert isinstance(counts, Counts)
    assert sum(rows for rows, _ in counts.batches) == counts.rows == 60
    assert all(rows <= 16 and tokens <= 80 for rows, tokens in counts.batches)
    assert any(rows > 3 for rows, _ in counts.batches), "requests shared a pass"
    assert counts.done == [3] * 20
    assert counts.depths[-1] == 0


def test_a_pass_begins_without_waiting_once_there_is_enough_for_it(serve: MakeServer) -> None:
    server = serve(max_batch_rows=4)
    assert len(server.submit(ask(4)).result(9).predictions) == 4


def test_draining_takes_nothing_more_and_answers_what_waits(serve: MakeServer) -> None:
    server = serve()
    futures = [server.submit(ask(10, seed=seed)) for seed in range(10)]
    assert server.drain(60)
    assert server.state == "draining"
    assert all(len(future.result(0).predictions) == 10 for future in futures)
    with pytest.raises(NotReadyError, match="draining"):
        server.submit(ask())


def test_a_drained_server_has_told_everyone_and_counted_everything(bank: Bank) -> None:
    class Slow(Counts):
        def finished(self, rows: int, queued_seconds: float, inference_seconds: float) -> None:
            sleep(0.2)
            super().finished(rows, queued_seconds, inference_seconds)

    counts = Slow()
    server = Server(BankSource(bank), ServeConfig(reload="off"), counts)
    server.start()
    try:
        server.wait_ready(60)
        future = server.submit(ask(2))
        assert server.drain(60)
        assert future.done()
        assert counts.done == [2]
    finally:
        server.stop()


def test_stopping_fails_what_was_not_answered_and_may_be_repeated(serve: MakeServer) -> None:
    server = serve()
    future = server.submit(ask(5))
    server.stop()
    server.stop()
    with pytest.raises(NotReadyError, match="stopped"):
        future.result(0)
    assert server.state == "stopped"
    with pytest.raises(NotReadyError, match="stopped"):
        server.submit(ask())
    with pytest.raises(NotReadyError, match="stopped"):
        server.reload()


def test_a_row_of_more_choices_than_a_pass_may_hold_is_refused_and_named(serve) -> None:
    server = serve(max_choices=3, max_wait_ms=0)
    few, many = (Row("sky", choices=("red", "blue", "green", "dark")[:n]) for n in (3, 4))
    assert server.submit(Ask((few,), "places")).result(30).predictions[0].choice is not None
    with pytest.raises(InputError, match=r"row 1: it has 4 choices; at most 3 .*--max-choices"):
        server.submit(Ask((few, many), "places"))
