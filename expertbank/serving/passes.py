"""Passes over batches: which rows have answers, and whose rows make a pass fail."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic

from expertbank.errors import IntegrityError
from expertbank.serving.faults import Faults, sentence_of
from expertbank.serving.limits import ServeConfig
from expertbank.serving.line import Place, cost
from expertbank.serving.observer import Observer
from expertbank.serving.request import Request
from expertbank.serving.throughput import PassCost, Throughput
from expertbank.serving.warming import warm
from expertbank.workflows.answering.prediction import Prediction

FAILURES = 3
"""Passes that fail one after another, with nothing answered between, until that is a fault."""
Places = Sequence[Place[Request]]
Outcome = tuple[Places, Sequence[Prediction] | Exception]
"""Rows and their answers, or the rows of one request and why they have none."""


class Passes:
    """Runs passes, measures them, and notes what will fail again. Of one thread.

    Args:
        config: bounds.
        observer: told of passes.
        faults: where damaged experts and passes that fail one after another are noted.
        waiting: how many rows wait for the next one.
        ending: whether what is still written is to be cut short.

    Attributes:
        throughput: of full passes.
    """

    def __init__(
        self,
        config: ServeConfig,
        observer: Observer,
        faults: Faults,
        waiting: Callable[[], int],
        ending: Callable[[], bool],
    ) -> None:
        self._full = config.max_batch_rows
        self._observer = observer
        self._faults = faults
        self._waiting = waiting
        self._ending = ending
        self.throughput = Throughput()
        self._cost = PassCost()
        self._failures = 0

    @property
    def fixed_cost(self) -> float:
        """What a pass costs whatever is in it, in tokens."""
        return self._cost.fixed

    def outcomes(self, batch: Places) -> Iterator[Outcome]:
        """What becomes of a batch; one that fails is tried again, a request at a time."""
        try:
            begun = monotonic()
            found = self._answer(batch)
        except Exception as error:  # noqa: BLE001  # one request's row may fail for any reason
            yield from self._apart(batch, error)
            return
        seconds = monotonic() - begun
        self._succeeded()
        self._cost.note(cost(batch), seconds)
        if self._waiting() or len(batch) == self._full:
            self.throughput.note(len(batch), seconds)
        self._tell(batch, seconds)
        yield batch, found

    def _answer(self, places: Places) -> list[Prediction]:
        """One pass over rows whose requests all began under one state."""
        predictor = places[0].owner.state.predictor
        questions = [
            replace(place.owner.questions[place.index], wanted=partial(self._wanted, place.owner))
            for place in places
        ]
        return predictor.answer(questions, batch_size=len(questions))

    def _wanted(self, request: Request) -> bool:
        """Whether an answer is to be written on: a caller waits for it, and so does the server."""
        request.cut |= self._ending()
        return request.written_for()

    def _apart(self, batch: Places, error: Exception) -> Iterator[Outcome]:
        """Find out whose rows make a batch fail, and let the others have their answers."""
        by_request: dict[Request, list[Place[Request]]] = defaultdict(list)
        for place in batch:
            by_request[place.owner].append(place)
        failed: list[tuple[Exception, Places]] = []
        for places in by_request.values():
            if len(by_request) > 1:
                begun = monotonic()
                try:
                    found = self._answer(places)
                except Exception as own:  # noqa: BLE001  # as above
                    error = own
                else:
                    self._tell(places, monotonic() - begun)
                    yield places, found
                    continue
            failed.append((error, places))
        if len(failed) < len(by_request):
            self._succeeded()
        else:
            self._failures += 1
        for error, failing in failed:
            self._note(error, failing)
            yield failing, error

    def _tell(self, places: Places, seconds: float) -> None:
        self._observer.batch(len(places), sum(place.tokens for place in places), seconds)

    def _succeeded(self) -> None:
        """Rows were answered: it is not that every pass fails."""
        self._failures = 0
        self._faults.passed()

    def _note(self, error: Exception, places: Places) -> None:
        """Remember what will fail again for others."""
        state = places[0].owner.state
        if isinstance(error, IntegrityError):
            # The rows themselves, without their request: its caller is told, and may go.
            questions = [place.owner.questions[place.index] for place in places]
            self._faults.note(sentence_of(error), lambda: state.predictor.answer(questions))
        elif self._failures >= FAILURES:
            # Rows of our own: those of callers may be what makes their passes fail.
            self._faults.note(sentence_of(error), lambda: warm(state), until_a_pass=True)
