"""``Server``: takes requests from any thread, answers them in shared passes."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Literal

from expertbank.serving.asking import Answered, Ask
from expertbank.serving.limits import ServeConfig
from expertbank.serving.live import ServingState, Source
from expertbank.serving.observer import Observer

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

    def start(self) -> None:
        """Begin: load the first state on another thread, and take requests once it is warm.

        Returns at once; ``wait_ready`` waits.
        """
        raise NotImplementedError

    def wait_ready(self, seconds: float | None = None) -> ServingState:
        """Wait for the first state.

        Raises:
            NotReadyError: it took longer than ``seconds``, or the server was stopped.
            ExpertBankError: why the first attempt to load failed.
        """
        raise NotImplementedError

    @property
    def state(self) -> State:
        """``starting`` until the first state is warm; ``broken`` see ``why``."""
        raise NotImplementedError

    @property
    def why(self) -> str | None:
        """A sentence on what is broken; ``None`` where nothing is.

        The first state cannot be loaded, the worker has died, an expert's file is damaged, or
        every pass fails. With a damaged expert what does not need it is still answered.
        """
        raise NotImplementedError

    @property
    def why_not_reloaded(self) -> str | None:
        """A sentence on why the newest state could not be loaded and an older one is served."""
        raise NotImplementedError

    @property
    def current(self) -> ServingState:
        """The state that requests begin under now.

        Raises:
            NotReadyError: nothing is loaded yet.
        """
        raise NotImplementedError

    @property
    def waiting_rows(self) -> int:
        """Rows that wait now."""
        raise NotImplementedError

    @property
    def rows_per_second(self) -> float | None:
        """Measured throughput of full passes; ``None`` before there were any."""
        raise NotImplementedError

    def submit(self, ask: Ask, deadline: float | None = None) -> Future[Answered]:
        """Queue a request; its rows are tokenized in the calling thread, some 0.1 ms each.

        ``Future.cancel`` withdraws the request at any time before it is answered; what of it
        still waits is not done.

        Args:
            ask: the request.
            deadline: by ``time.monotonic()``; default ``config.deadline_ms`` from now. Rows that
                still wait then are dropped, and the future fails with ``DeadlineError``, at the
                latest when the pass under way ends.

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
        raise NotImplementedError

    def reload(self) -> ServingState | None:
        """Look for something new now, load it and swap it in; waits for it.

        Returns:
            The new state, or ``None`` where nothing changed.

        Raises:
            NotReadyError: the server does not run.
            ExpertBankError: it cannot be loaded; the old state is served on.
        """
        raise NotImplementedError

    def drain(self, seconds: float | None = None) -> bool:
        """Take nothing more, and wait for what was taken; default ``config.drain_seconds``.

        Returns:
            Whether all of it was answered.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """End; what was not answered fails with ``NotReadyError``. Repeating it is harmless."""
        raise NotImplementedError
