"""Several experts: one after the other here, or at once elsewhere, committed here one at a time.

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
from expertbank.workflows.growing.add import AddResult, add, commit
from expertbank.workflows.growing.jobs import AddJob, FinishedJob
from expertbank.workflows.growing.prepare import prepare, warn
from expertbank.workflows.growing.request import AddRequest
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


@dataclass(slots=True)
class _Running:
    place: int
    job: AddJob
    state: bytes | None
    tries: int = 1


def add_many(
    workspace: Workspace,
    requests: Sequence[AddRequest],
    crowd: Crowd | None = None,
    *,
    progress: ProgressCallback = no_progress,
    added: Callable[[AddResult], None] = lambda result: None,
) -> list[AddResult | Exception]:
    """Train and register several experts; one that fails does not stop the others.

    The experts are those that ``add`` gives one after the other on a machine of the workers' kind
    and number of threads, to the bit.

    Args:
        workspace: the open bank.
        requests: what to add; two of one task wait for each other.
        crowd: who trains and measures; default this process, one after the other.
        progress: called as work goes on; of a crowd's, ``of`` names the expert.
        added: called as each is registered.

    Returns:
        By request what was added, or why not: a defect is one request's failure too.
    """
    if crowd is None:
        return [_added(workspace, request, progress, added) for request in requests]
    found: dict[int, AddResult | Exception] = {}
    waiting, running = deque(enumerate(requests)), dict[str, _Running]()
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
                except Exception as error:  # noqa: BLE001 (it is told, not lost)
                    found[one.place] = error
                else:
                    found[one.place] = result
                    added(result)
    return [found[place] for place in range(len(requests))]


def _added(
    workspace: Workspace,
    request: AddRequest,
    progress: ProgressCallback,
    added: Callable[[AddResult], None],
) -> AddResult | Exception:
    """What ``add`` gives, or its error."""
    try:
        result = add(workspace, request, progress)
    except Exception as error:  # noqa: BLE001 (it is told, not lost)
        return error
    added(result)
    return result


def _begin(
    workspace: Workspace,
    crowd: Crowd,
    waiting: deque[tuple[int, AddRequest]],
    running: dict[str, _Running],
    found: dict[int, AddResult | Exception],
    progress: ProgressCallback,
) -> None:
    """Prepare jobs and give them away as long as there is room, each task's in their order."""
    begun = {one.job.entry.task.name for one in running.values()}
    left: list[tuple[int, AddRequest]] = []
    while waiting and len(running) < crowd.width:
        place, request = waiting.popleft()
        if request.name in begun:
            left.append((place, request))
            continue
        try:
            _require_settled(request)
            job = prepare(workspace, request, progress)
            warn(job, progress)
            state = workspace.checkpoint(job.entry.task.name).read() if request.resume else None
        except Exception as error:  # noqa: BLE001 (it is told, not lost)
            found[place] = error
            continue
        begun.add(request.name)
        running[job.entry.id] = _Running(place, job, state)
        crowd.start(job, state)
    waiting.extendleft(reversed(left))


def _require_settled(request: AddRequest) -> None:
    """Refuse a search for settings, which would be this process's work.

    Raises:
        InputError: one is asked for.
    """
    if request.search is not None:
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
