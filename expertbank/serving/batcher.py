"""The queue, and the one thread that answers what waits in it.

Nothing here loads anything or knows where states come from. A row leaves the queue when its pass
begins; its request is settled when all its rows are answered, or at the first that cannot be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Condition, Thread
from time import monotonic

from expertbank.serving.answered import Answered
from expertbank.serving.errors import DeadlineError, NotReadyError, QueueFullError
from expertbank.serving.faults import Faults, sentence_of
from expertbank.serving.limits import ServeConfig
from expertbank.serving.line import Line, Place
from expertbank.serving.live import ServingState
from expertbank.serving.observer import Observer
from expertbank.serving.passes import Passes
from expertbank.serving.request import STOPPED, Request, Teller
from expertbank.workflows.answering.prediction import Prediction

SOON = 1.0
"""Seconds to tell a refused caller to wait while nothing was measured yet."""


class Batcher:
    """Answers requests in shared passes, on a thread of its own.

    Args:
        config: bounds.
        observer: told of what happens.
        faults: where damaged experts and passes that fail one after another are noted.

    Attributes:
        throughput: of full passes.
    """

    def __init__(self, config: ServeConfig, observer: Observer, faults: Faults) -> None:
        self._config = config
        self._observer = observer
        self._callers = Teller(observer)
        self._line: Line[Request] = Line(config.max_batch_rows, config.max_batch_tokens)
        self._open: dict[Request, None] = {}
        self._untold = 0  # requests no longer open, whose callers have yet to hear of it
        self._promised = 0
        self._under_way = 0
        self._ending = False
        self._draining = False
        self._changed = Condition()
        self._thread: Thread | None = None
        self._died: str | None = None
        self._passes = Passes(
            config, observer, faults, lambda: len(self._line), lambda: self._ending
        )
        self.throughput = self._passes.throughput

    # -- the thread --------------------------------------------------------------------------

    def start(self) -> None:
        """Start the worker, or another one in the place of one that died."""
        with self._changed:
            self._died = None
            self._thread = Thread(target=self._work, name="expertbank-worker", daemon=True)
            self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether there is a worker."""
        return self._thread is not None and self._thread.is_alive() and self._died is None

    @property
    def why_dead(self) -> str | None:
        """A sentence on a worker that died."""
        return None if self.alive or self._ending else self._died or "the worker has not begun"

    def stop(self) -> None:
        """End the worker after the pass under way; what waits, or is still written, fails."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._fail_all(STOPPED)

    # -- what comes in -----------------------------------------------------------------------

    @property
    def given_up(self) -> int:
        """Requests that were taken and not answered, because the worker ended."""
        return self._callers.given_up

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        return len(self._line)

    def reserve(self, rows: int, deadline: float) -> None:
        """Keep room for a request that is about to be read; ``enqueue`` or ``release`` ends it.

        Raises:
            QueueFullError: there is none, or the last row would be answered after ``deadline``.
        """
        with self._changed:
            held = len(self._line) + self._promised
            missing = held + rows - self._config.queue_rows
            if missing > 0:
                wait = self.throughput.seconds_for(missing) or SOON
                raise QueueFullError(
                    f"{held} rows wait and {self._config.queue_rows} may; come again", wait
                )
            ahead = self._line.ahead(rows)
            needed = self.throughput.seconds_for(ahead + rows + self._under_way)
            late = 0.0 if needed is None else monotonic() + needed - deadline
            # With nothing in front it is tried, whatever was measured: that is measured anew.
            if ahead and late > 0:
                raise QueueFullError(
                    "so many rows wait that the answer would come after the deadline; come again",
                    late,
                )
            self._promised += rows

    def release(self, rows: int) -> None:
        """Give back what ``reserve`` kept."""
        with self._changed:
            self._promised -= rows

    def enqueue(self, request: Request) -> Future[Answered]:
        """Let a request wait, in the room that ``reserve`` kept for it.

        Raises:
            NotReadyError: the worker has died or was stopped meanwhile.
        """
        sizes = request.sizes
        with self._changed:
            self._promised -= len(sizes)
            if not self.alive or self._ending:
                raise NotReadyError(self.why_dead or "the server is stopping")
            self._open[request] = None
            self._line.add(request, sizes, id(request.state))
            depth = len(self._line)
            self._changed.notify_all()
        request.future.add_done_callback(lambda future: self._withdraw(request, future))
        self._observer.queued(len(sizes), sum(size.tokens for size in sizes))
        self._observer.depth(depth)
        return request.future

    def _withdraw(self, request: Request, future: Future[Answered]) -> None:
        """Drop what is left of a request whose caller has gone."""
        if not future.cancelled():
            return
        with self._changed:
            if self._open.pop(request, self) is self:
                return
            self._line.remove(request)
            depth = len(self._line)
            self._changed.notify_all()
        self._observer.depth(depth)

    def drain(self, seconds: float) -> bool:
        """Wait until every caller has an answer or a reason; whether that came in time."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not (self._open or self._untold), seconds)

    def serves(self, state: ServingState) -> bool:
        """Whether no request is open that began under another state."""
        with self._changed:
            return all(request.state is state for request in self._open)

    # -- what the worker does ----------------------------------------------------------------

    def _work(self) -> None:
        try:
            while self._step():
                pass
        except BaseException as error:  # noqa: BLE001  # a thread that ends must not go unseen
            self._fail_all(f"the worker died of {sentence_of(error)}", died=True)

    def _step(self) -> bool:
        """Answer one batch; false at the end. What it was is forgotten before the next wait."""
        batch = self._next()
        for places, found in self._passes.outcomes(batch) if batch else ():
            if isinstance(found, Exception):
                self._drop(places[0].owner, found)
            else:
                self._keep(places, found)
        self._under_way = 0
        return batch is not None

    def _next(self) -> list[Place[Request]] | None:
        """Wait for the next batch; ``None`` at the end, empty where all of it was too late."""
        with self._changed:
            self._changed.wait_for(lambda: self._ending or len(self._line) > 0)
            if self._config.max_wait_ms and not self._ending:
                self._gather()
            if self._ending:
                return None
            moment = monotonic()
            late = [request for request in self._open if request.late(moment)]
            for request in late:
                self._close(request)
                self._line.remove(request)
            batch = self._line.take(self._passes.fixed_cost)
            self._under_way = len(batch)
            depth = len(self._line)
            for place in batch:
                if place.owner.begun is None:
                    place.owner.begun = moment
        with self._telling(late):
            for request in late:
                why = DeadlineError("the deadline passed before the answer was ready")
                self._callers.fail(request, why)
        self._observer.depth(depth)
        return batch

    def _gather(self) -> None:
        """Let more rows come, until the oldest has waited for long enough or is due."""
        while not (self._ending or self._draining or self._line.enough) and self._open:
            end = min(
                min(request.submitted for request in self._open) + self._config.max_wait_ms / 1000,
                min(request.deadline for request in self._open),
            )
            left = end - monotonic()
            if left <= 0 or not self._changed.wait(left):
                return

    def _keep(self, places: Sequence[Place[Request]], predictions: Sequence[Prediction]) -> None:
        """Put answers where they belong, and settle the requests that have all of theirs."""
        done: list[Request] = []
        moment = monotonic()
        with self._changed:
            for place, prediction in zip(places, predictions, strict=True):
                request = place.owner
                if request in self._open:
                    request.found[place.index] = prediction
                    if request.complete:
                        self._close(request)
                        done.append(request)
        with self._telling(done):
            for request in done:
                self._callers.end(request, moment)

    def _close(self, request: Request) -> None:
        """Under the lock: answer no more of it. Its caller hears of it within ``_telling``."""
        del self._open[request]
        self._untold += 1

    @contextmanager
    def _telling(self, closed: Sequence[Request]) -> Iterator[None]:
        """While the callers of closed requests are told, without the lock: they may come back."""
        try:
            yield
        finally:
            if closed:
                with self._changed:
                    self._untold -= len(closed)
                    self._changed.notify_all()

    def _drop(self, request: Request, error: Exception) -> None:
        """Fail a request, and take what is left of it out of the queue."""
        with self._changed:
            if request not in self._open:
                return
            self._close(request)
            self._line.remove(request)
        with self._telling([request]):
            self._callers.fail(request, error)

    def _fail_all(self, why: str, *, died: bool = False) -> None:
        with self._changed:
            if died:
                self._died = why
            requests = list(self._open)
            for request in requests:
                self._close(request)
                self._line.remove(request)
            self._under_way = 0
        with self._telling(requests):
            for request in requests:
                self._callers.give_up(request, why)
