"""One request of the queue, and how its caller hears what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import monotonic

from expertbank.serving.answered import Answered
from expertbank.serving.errors import DeadlineError, NotReadyError
from expertbank.serving.line import Size
from expertbank.serving.live import ServingState
from expertbank.serving.observer import Observer
from expertbank.workflows.answering.decision import Routed
from expertbank.workflows.answering.prediction import Prediction, Question

STOPPED = "the server was stopped"


@dataclass(slots=True, eq=False)
class Request:
    """One request in the queue or under way.

    Attributes:
        questions: its rows.
        state: what it is answered by.
        deadline: by ``time.monotonic()``.
        submitted: when it came, likewise.
        future: what its caller holds. It stays pending until it is settled, so that it can be
            cancelled at any time.
        begun: when the first row was taken; ``None`` before.
        found: the answers so far, by row.
        cut: whether an answer of it was ended because the server stops.
    """

    questions: Sequence[Question]
    state: ServingState
    deadline: float
    submitted: float
    future: Future[Answered] = field(default_factory=Future)
    begun: float | None = None
    found: dict[int, Prediction] = field(default_factory=dict)
    cut: bool = False

    @property
    def sizes(self) -> list[Size]:
        """What each row costs a pass."""
        every = [question.encoded for question in self.questions]
        return [Size(one.length, len(one.sequences), sum(map(len, one.sequences))) for one in every]

    @property
    def tokens(self) -> int:
        """Of all its rows."""
        return sum(size.tokens for size in self.sizes)

    @property
    def complete(self) -> bool:
        """Whether every row has its answer."""
        return len(self.found) == len(self.questions)

    def late(self, moment: float) -> bool:
        """Whether ``moment`` is no longer before its deadline."""
        return self.deadline <= moment

    def written_for(self) -> bool:
        """Whether an answer that is being written is still waited for."""
        return not (self.cut or self.future.cancelled() or self.late(monotonic()))

    def answered(self, moment: float) -> Answered:
        """What its caller gets, once it is complete."""
        begun = self.submitted if self.begun is None else self.begun
        return Answered(
            tuple(self.found[index] for index in range(len(self.questions))),
            self.state,
            begun - self.submitted,
            moment - begun,
            self.tokens,
        )


class Teller:
    """Tells callers, and the observer, how requests ended: each hears it once.

    A caller may come back at once, so nothing here may be called under the queue's lock.

    Args:
        observer: told of what happens.

    Attributes:
        given_up: requests that were taken and not answered, because the worker ended.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.given_up = 0

    def end(self, request: Request, moment: float) -> None:
        """Settle a complete request: with its answers, unless they come too late or were cut."""
        if request.cut:
            self.give_up(request, STOPPED)
        elif request.late(moment):
            self.fail(request, DeadlineError("the answer came after the deadline"))
        else:
            self._answer(request, request.answered(moment))

    def fail(self, request: Request, error: Exception) -> None:
        """Settle a request with an error."""
        if request.future.set_running_or_notify_cancel():
            request.future.set_exception(error)

    def give_up(self, request: Request, why: str) -> None:
        """Settle a request that nobody will answer any more."""
        self.given_up += not request.future.cancelled()
        self.fail(request, NotReadyError(why))

    def _answer(self, request: Request, answered: Answered) -> None:
        if not request.future.set_running_or_notify_cancel():
            return
        request.future.set_result(answered)
        for question, one in zip(request.questions, answered.predictions, strict=True):
            routed = isinstance(question.decision, Routed)
            version = request.state.router_version if routed else None
            self._observer.answered(one.task, one.unknown, version)
        self._observer.finished(
            len(answered.predictions), answered.queued_seconds, answered.inference_seconds
        )
