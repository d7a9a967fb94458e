"""The states of a server: the one that is served, and the thread that looks for a newer."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock, Thread
from time import monotonic

from expertbank.serving.errors import NotReadyError
from expertbank.serving.faults import LOG, Faults, sentence_of
from expertbank.serving.limits import ServeConfig
from expertbank.serving.live import ServingState, Source
from expertbank.serving.observer import Observer
from expertbank.serving.warming import warm

LOOKING = 20
"""Looking for something new takes at most one part in so many of the time."""
LONGEST_PAUSE = 60.0
"""Seconds between two attempts to load what could not be loaded."""


class Keeper:
    """Loads states aside and swaps them in, on a thread of its own or the caller's.

    Args:
        source: where states come from.
        config: how often to look.
        observer: told of reloads.
        faults: those of the state before are forgotten when another is served.
        beside: called again and again meanwhile: whatever else must be looked after.

    Attributes:
        served: the state that requests begin under; ``None`` until the first is warm.
        error: why the newest state could not be loaded; ``None`` where it is served.
    """

    def __init__(
        self,
        source: Source,
        config: ServeConfig,
        observer: Observer,
        faults: Faults,
        beside: Callable[[ServingState], None],
    ) -> None:
        self._source = source
        self._config = config
        self._observer = observer
        self._faults = faults
        self._beside = beside
        self._loading = Lock()
        self.served: ServingState | None = None
        self._first_try = Event()
        self._ending = Event()
        self._hurried = False
        self.error: Exception | None = None
        self._looking = 0.0
        self._thread = Thread(target=self._keep, name="expertbank-keeper", daemon=True)

    def start(self) -> None:
        """Begin to load the first state."""
        self._thread.start()

    def hurry(self) -> None:
        """Let ``stop`` not wait for a first state: its thread ends with the process."""
        self._hurried = True

    def stop(self) -> None:
        """End the thread; a state that is being loaded is waited for, and not served."""
        self._ending.set()
        self._first_try.set()
        waited = self.served is not None or not self._hurried
        if waited and self._thread.ident is not None:
            self._thread.join()

    def wait(self, seconds: float | None) -> ServingState:
        """The first state; see ``Server.wait_ready``."""
        came = self._first_try.wait(seconds)
        if self.served is not None:
            return self.served
        if self.error is not None:
            raise self.error
        raise NotReadyError(
            "the server was stopped" if came else f"nothing is loaded after {seconds:g} seconds"
        )

    def look(self) -> ServingState | None:
        """Load what is new, warm it, swap it in; ``None`` where nothing is.

        Raises:
            Exception: it cannot be loaded. What was served is served on.
        """
        with self._loading:
            served = self.served
            try:
                if served is not None and not self._changed(served):
                    self.error = None
                    return None
                state = self._source.load(served)
                self._go_on()
                warm(state)
                self._go_on()
            except Exception as error:
                if self._ending.is_set():
                    raise  # whatever it is: nobody waits for it
                if str(error) != str(self.error):
                    what, kept = "what is to be served", ""
                    if served is not None:
                        what, kept = "a newer state", f"; state {served.number} is served on"
                    LOG.error("%s could not be loaded: %s%s", what, sentence_of(error), kept)
                self.error = error
                self._observer.reloaded(False)
                raise
            # One assignment: a request begins under the one state or the other.
            self.served = state
            self.error = None
            self._faults.forget()
            if served is not None:
                self._observer.reloaded(True)
            return state

    def _go_on(self) -> None:
        if self._ending.is_set():
            raise NotReadyError("the server was stopped")

    def _changed(self, served: ServingState) -> bool:
        begun = monotonic()
        try:
            return self._source.changed(served)
        finally:
            self._looking = monotonic() - begun

    def _keep(self) -> None:
        failed = 0
        while not self._ending.is_set():
            if self.served is None or self._config.reload == "auto":
                failed = 0 if self._try() else failed + 1
            self._first_try.set()
            pause = max(self._config.reload_seconds, LOOKING * self._looking)
            if failed:
                pause = min(pause * 2 ** min(failed, 10), LONGEST_PAUSE)
            self._pause(pause)
        self._first_try.set()

    def _try(self) -> bool:
        try:
            self.look()
        except Exception:  # noqa: BLE001  # kept in ``error``, counted, and tried again
            return False
        return True

    def _pause(self, seconds: float) -> None:
        """Wait, looking after the rest as often as is configured."""
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            if self._ending.wait(min(left, self._config.reload_seconds)):
                return
            if self.served is not None:
                self._beside(self.served)
