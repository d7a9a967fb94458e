"""Several experts trained at once, elsewhere; what comes back is committed here, one at a time.

Only this process writes the bank. Workers get jobs that are prepared (plain values) and give
finished ones back, so a worker that dies loses nothing but its own time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from expertbank.errors import ExpertBankError, InputError, TrainingError
from expertbank.records import ProgressCallback, ProgressEvent, no_progress
from expertbank.workflows.growing.add import AddResult, commit
from expertbank.workflows.growing.jobs import AddJob, FinishedJob
from expertbank.workflows.growing.prepare import AddRequest, prepare
from expertbank.workflows.workspace import Workspace

if TYPE_CHECKING:
    from types import TracebackType

TRIES = 3
"""How often a job is begun before its workers' deaths count as its failure."""


@dataclass(frozen=True, slots=True)
class Happened:
    """What a worker told, or what became of it.

    Attributes:
        job: id of the expert it is about.
        event: how far its work is.
        state: its unfinished training, to go on from.
        finished: the expert, trained and measured.
        error: why there will be none.
        died: the worker is gone, and how, in words: the job may be begun again.
    """

    job: str
    event: ProgressEvent | None = None
    state: bytes | None = None
    finished: FinishedJob | None = None
    error: ExpertBankError | OSError | None = None
    died: str = ""


class Crowd(Protocol):
    """Workers that train and measure several jobs at once."""

    @property
    def width(self) -> int:
        """How many jobs run at once."""

    def start(self, job: AddJob, state: bytes | None) -> None:
        """Begin ``job``, or go on from ``state``; called for at most ``width`` at a time."""

    def stop(self, job: str) -> None:
        """End the work on a job that is under way; nothing more is told of it."""

    def wait(self) -> Happened:
        """What happens next; there is a job under way."""

    def __enter__(self) -> Crowd:
        """The workers, ready."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all workers, whatever they do."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One expert to add, and whether its interrupted run is to go on."""

    request: AddRequest
    resume: bool = False

    @property
    def task(self) -> str:
        """The task's name."""
        task = self.request.task
        return task if isinstance(task, str) else task.name


@dataclass(slots=True)
class _Running:
    place: int
    job: AddJob
    state: bytes | None
    tries: int = 1


def add_many(
    workspace: Workspace,
    wishes: Sequence[Wish],
    crowd: Crowd,
    *,
    progress: ProgressCallback = no_progress,
    added: Callable[[AddResult], None] = lambda result: None,
) -> list[AddResult | ExpertBankError | OSError]:
    """Train and register several experts; one that fails does not stop the others.

    The experts are those that ``add`` gives one after the other on a machine of the workers' kind
    and number of threads, to the bit.

    Args:
        workspace: the open bank.
        wishes: what to add; two of one task wait for each other.
        crowd: who trains and measures.
        progress: called as work goes on, with ``of`` naming the expert.
        added: called as each is registered.

    Returns:
        By wish what was added, or why not.
    """
    found: dict[int, AddResult | ExpertBankError | OSError] = {}
    waiting, running = deque(enumerate(wishes)), dict[str, _Running]()
    with crowd:
        while waiting or running:
            _begin(workspace, crowd, waiting, running, found, progress)
            if not running:
                continue
            happened = crowd.wait()
            one = running[happened.job]
            if happened.event is not None:
                progress(replace(happened.event, of=happened.job))
            elif happened.state is not None:
                one.state = happened.state
                try:
                    workspace.checkpoint(one.job.entry.task.name).write(happened.state)
                except (ExpertBankError, OSError) as error:
                    crowd.stop(happened.job)
                    found[running.pop(happened.job).place] = error
            elif happened.died and one.tries < TRIES:
                one.tries += 1
                crowd.start(one.job, one.state)
            else:
                del running[happened.job]
                try:
                    result = _result(workspace, one, happened, progress)
                except (ExpertBankError, OSError) as error:
                    found[one.place] = error
                else:
                    found[one.place] = result
                    added(result)
    return [found[place] for place in range(len(wishes))]


def _begin(
    workspace: Workspace,
    crowd: Crowd,
    waiting: deque[tuple[int, Wish]],
    running: dict[str, _Running],
    found: dict[int, AddResult | ExpertBankError | OSError],
    progress: ProgressCallback,
) -> None:
    """Prepare jobs and give them away as long as there is room, each task's in their order."""
    begun = {one.job.entry.task.name for one in running.values()}
    left: list[tuple[int, Wish]] = []
    while waiting and len(running) < crowd.width:
        place, wish = waiting.popleft()
        if wish.task in begun:
            left.append((place, wish))
            continue
        try:
            _require_settled(wish.request)
            job = prepare(workspace, wish.request, progress)
            state = workspace.checkpoint(job.entry.task.name).read() if wish.resume else None
        except (ExpertBankError, OSError) as error:
            found[place] = error
            continue
        begun.add(wish.task)
        running[job.entry.id] = _Running(place, job, state)
        crowd.start(job, state)
    waiting.extendleft(reversed(left))


def _require_settled(request: AddRequest) -> None:
    """Refuse a search for settings, which would be this process's work.

    Raises:
        InputError: one is asked for.
    """
    if request.tune is not None and request.tune.trials is not None:
        raise InputError(
            "a search for settings (--tune) runs in one process; leave --on out, or search first"
        )


def _result(
    workspace: Workspace, one: _Running, happened: Happened, progress: ProgressCallback
) -> AddResult:
    """The registered expert.

    Raises:
        ExpertBankError: what a worker raised, or that too many died.
    """
    if happened.finished is not None:
        result = commit(
            workspace,
            happened.finished,
            progress=lambda event: progress(replace(event, of=happened.job)),
        )
        workspace.checkpoint(one.job.entry.task.name).remove()
        return result
    if happened.error is not None:
        raise happened.error
    raise TrainingError(
        f"{happened.job}: its worker died {one.tries} times ({happened.died}); nothing was stored"
    )
