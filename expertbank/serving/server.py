"""``Server``: takes requests from any thread, answers them in shared passes."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Lock
from time import monotonic
from typing import Literal

from expertbank.backbones.forks import require_threads
from expertbank.data import as_rows
from expertbank.errors import InputError, IntegrityError, NotFoundError
from expertbank.records import Row
from expertbank.serving.answered import Answered
from expertbank.serving.asking import Ask
from expertbank.serving.batcher import Batcher
from expertbank.serving.errors import (
    DeadlineError,
    NotReadyError,
    TooManyTokensError,
)
from expertbank.serving.faults import Faults, sentence_of
from expertbank.serving.keeper import Keeper
from expertbank.serving.limits import ServeConfig
from expertbank.serving.live import ServingState, Source
from expertbank.serving.observer import Observer
from expertbank.serving.request import Request
from expertbank.workflows.answering.prediction import Question

State = Literal["starting", "ready", "broken", "draining", "stopped"]


class Server:
    """Answers requests of any number of threads with one worker thread.

    Args:
        source: where its states come from.
        config: its bounds.
        observer: told of what happens.
    """

    def __init__(
        self, source: Source, config: ServeConfig | None = None, observer: Observer | None = None
    ) -> None:
        self.source = source
        self.config = config or ServeConfig()
        self.observer = observer or Observer()
        self._faults = Faults()
        self._batcher = Batcher(self.config, self.observer, self._faults)
        self._keeper = Keeper(source, self.config, self.observer, self._faults, self._look_after)
        self._tidy: ServingState | None = None
        self._phase: Literal["new", "running", "draining", "stopped"] = "new"
        self._stopping = Lock()

    # -- its life ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin: load the first state on another thread, and take requests once it is warm.

        Returns at once; ``wait_ready`` waits. Where the first state cannot be loaded it is tried
        again, less and less often.

        Raises:
            NotReadyError: it was started before.
            ExpertBankError: this process is a fork of one that has computed, see ``forks``.
        """
        require_threads()
        with self._stopping:
            if self._phase != "new":
                raise NotReadyError("a server is started once; make another one")
            self._phase = "running"
            self._batcher.start()
            self._keeper.start()

    def wait_ready(self, seconds: float | None = None) -> ServingState:
        """Wait for the first state.

        Raises:
            NotReadyError: it took longer than ``seconds``, or the server was stopped.
            ExpertBankError: why the first attempt to load failed.
        """
        return self._keeper.wait(seconds)

    def reload(self) -> ServingState | None:
        """Look for something new now, load it and swap it in; waits for it.

        Returns:
            The new state, or ``None`` where nothing changed.

        Raises:
            NotReadyError: the server does not run.
            ExpertBankError: it cannot be loaded; the old state is served on.
        """
        if self._phase != "running":
            raise NotReadyError(f"the server is {self.state}")
        return self._keeper.look()

    def drain(self, seconds: float | None = None) -> bool:
        """Take nothing more, and wait for what was taken; default ``config.drain_seconds``.

        Returns:
            Whether all of it was answered.
        """
        with self._stopping:
            if self._phase == "running":
                self._phase = "draining"
        return self._batcher.drain(self.config.drain_seconds if seconds is None else seconds)

    def stop(self) -> None:
        """End; what was not answered fails with ``NotReadyError``. Repeating it is harmless."""
        with self._stopping:
            self._phase = "stopped"
            self._batcher.stop()
            self._keeper.stop()

    def hurry(self) -> None:
        """Let ``stop`` not wait for a first state that is being loaded.

        What loads it ends with the process, which should then end by ``os._exit``.
        """
        self._keeper.hurry()

    # -- how it is ---------------------------------------------------------------------------

    @property
    def loaded(self) -> bool:
        """Whether there was ever a state to answer by."""
        return self._keeper.served is not None

    @property
    def state(self) -> State:
        """``starting`` until the first state is warm; ``broken`` see ``why``."""
        if self._phase in {"draining", "stopped"}:
            return "draining" if self._phase == "draining" else "stopped"
        if self._phase == "running" and self.why is not None:
            return "broken"
        return "starting" if self._keeper.served is None else "ready"

    @property
    def why(self) -> str | None:
        """A sentence on what is broken; ``None`` where nothing is.

        The first state cannot be loaded, the worker has died, an expert's file is damaged, or
        every pass fails, which ends with the first that does not. With a damaged expert what does
        not need it is still answered. All of it is tried again every ``config.reload_seconds``,
        and a dead worker is replaced.
        """
        if self._phase == "new":
            return None
        if self._keeper.served is None and self._keeper.error is not None:
            return sentence_of(self._keeper.error)
        return self._batcher.why_dead or self._faults.first

    @property
    def why_not_reloaded(self) -> str | None:
        """A sentence on why the newest state could not be loaded and an older one is served."""
        error = self._keeper.error
        return None if error is None or self._keeper.served is None else sentence_of(error)

    @property
    def current(self) -> ServingState:
        """The state that requests begin under now.

        Raises:
            NotReadyError: nothing is loaded yet.
        """
        served = self._keeper.served
        if served is None:
            raise NotReadyError(self.why or "nothing is loaded yet")
        return served

    @property
    def given_up(self) -> int:
        """Requests that were taken and never answered, for the server was stopped."""
        return self._batcher.given_up

    @property
    def waiting_rows(self) -> int:
        """Rows that wait now."""
        return self._batcher.waiting

    @property
    def rows_per_second(self) -> float | None:
        """Measured throughput of full passes; ``None`` before there were any."""
        return self._batcher.throughput.rows_per_second

    # -- what it is for ----------------------------------------------------------------------

    def submit(
        self, ask: Ask, deadline: float | None = None, under: ServingState | None = None
    ) -> Future[Answered]:
        """Queue a request; its rows are tokenized in the calling thread, some 0.1 ms each.

        ``Future.cancel`` withdraws the request at any time before it is answered; what of it
        still waits is not done.

        Args:
            ask: the request.
            deadline: by ``time.monotonic()``; default ``config.deadline_ms`` from now. Rows that
                still wait then are dropped, and the future fails with ``DeadlineError``, at the
                latest when the pass under way ends.
            under: the state to answer by, of an answer that this one belongs to; default
                ``current``.

        Raises:
            QueueFullError: there is no room, or the answer would come too late.
            DeadlineError: the deadline has passed.
            NotReadyError: nothing is loaded, the worker has died, or the server is stopping.
            TooLargeError: more rows than one request may bring.
            NotFoundError: no such model or version, or no router.
            InputError: no rows, options that exclude each other, or a row that cannot be read or
                answered: the message names it.
            IntegrityError: the named expert's file is damaged.
        """
        submitted = monotonic()
        if self._phase != "running":
            raise NotReadyError(f"the server is {self.state}")
        state = under or self.current
        if self._batcher.why_dead is not None:
            raise NotReadyError(self._batcher.why_dead)
        rows = len(ask.rows)
        if rows == 0:
            raise InputError("the request brings no row")
        self.config.allow(rows)
        if deadline is None:
            deadline = submitted + self.config.deadline_ms / 1000
        if deadline <= submitted:
            raise DeadlineError("the deadline passed before the request was queued")
        # Refused before its texts are read: that is what takes time.
        self._batcher.reserve(rows, deadline)
        try:
            request = Request(self._questions(state, ask), state, deadline, submitted)
        except BaseException:
            self._batcher.release(rows)
            raise
        return self._batcher.enqueue(request)

    def at_hand(self, ask: Ask, under: ServingState | None = None) -> bool:
        """Whether ``submit`` reads no file: the experts that are named were read before."""
        with suppress(NotFoundError, NotReadyError):
            state = under or self.current
            return all(map(state.predictor.knows, state.named(ask)))
        return True

    def _questions(self, state: ServingState, ask: Ask) -> list[Question]:
        """The rows of a request, ready to be answered."""
        try:
            # What is told while it is written is one expert's.
            twice = self.config.second_opinion and ask.told is None
            decision = state.decision(ask, second_opinion=twice)
        except IntegrityError as error:
            self._faults.note(sentence_of(error), lambda: state.decision(ask))
            raise
        rows: list[Row] = []
        for index, row in enumerate(as_rows(list(ask.rows))):
            if isinstance(row, InputError):
                raise row
            row = row if row.origin else replace(row, origin=f"row {index}")
            if len(row.choices) > self.config.max_choices:
                raise InputError(
                    f"{row.origin}: it has {len(row.choices)} choices; at most "
                    f"{self.config.max_choices} are read here (--max-choices)"
                )
            rows.append(row)
        found: list[Question] = []
        for question in state.predictor.questions(rows, decision):
            if isinstance(question, InputError):
                raise question
            if ask.whole and question.encoded.truncated:
                most = state.predictor.model.spec.max_length
                raise TooManyTokensError(
                    f"{question.row.origin}: it has more than {most} tokens, which is the most "
                    "that is read here; shorten it"
                )
            told = None if ask.told is None else partial(ask.told, len(found))
            found.append(
                replace(
                    question,
                    sampling=ask.sampling_of(len(found)),
                    told=told,
                    only_routed=ask.only_routed,
                )
            )
        return found

    def _look_after(self, served: ServingState) -> None:
        """Replace a dead worker, try again what failed, let go of what only old states needed."""
        if self._phase != "running":
            return
        if not self._batcher.alive:
            self._batcher.start()
        self._faults.retry()
        if self._tidy is not served and self._batcher.serves(served):
            served.predictor.model.pool.keep_only({one.digest for one in served.needed})
            self._tidy = served
