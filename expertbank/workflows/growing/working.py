"""A worker's part of a job: train and measure on a backbone that is kept for the next one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from expertbank.errors import ExpertBankError, TrainingError
from expertbank.records import ProgressEvent
from expertbank.workflows.growing.crowd import Happened
from expertbank.workflows.growing.jobs import AddJob, InThisProcess, loaded

if TYPE_CHECKING:
    from expertbank.backbones.backbone import Backbone


OFTEN = 0.2
"""Seconds between two words on how far a job is."""


class Backbones:
    """The backbone that the last job was on.

    Args:
        device: where to load it; default the best there is.
    """

    def __init__(self, device: str | None = None) -> None:
        self._device = device
        self._last: tuple[str, Backbone] | None = None

    def result(
        self, job: AddJob, state: bytes | None, tell: Callable[[Happened], None]
    ) -> Happened:
        """The finished job, or the error that ended it.

        Args:
            job: what to train and measure.
            state: to go on from.
            tell: takes progress and states of unfinished training.
        """
        name, told = job.entry.id, (0.0, "")

        def progress(event: ProgressEvent) -> None:
            nonlocal told
            now = time.monotonic()
            if event.stage != told[1] or event.done == event.total or now - told[0] > OFTEN:
                told = now, event.stage
                tell(Happened(name, event=event))

        def keep(kept: bytes) -> None:
            tell(Happened(name, state=kept))

        try:
            here = InThisProcess(self._for(job))
            done = here.run(job, progress=progress, resume=state, keep=keep)
            return Happened(name, finished=done)
        except Exception as error:  # noqa: BLE001 (whatever it is, the others go on)
            return Happened(name, error=_told(name, error))

    def _for(self, job: AddJob) -> Backbone:
        wanted = job.backbone.digest
        if self._last is None or self._last[0] != wanted:
            self._last = None  # never two at once
            self._last = wanted, loaded(job, None, self._device)
        return self._last[1]


def _told(name: str, error: Exception) -> ExpertBankError | OSError:
    """The error as one that another process can read: a plugin's class may not come back."""
    ours, own = ExpertBankError.__module__, type(error).__module__
    if isinstance(error, ExpertBankError | OSError) and own in {ours, "builtins"}:
        return error
    for kind in type(error).__mro__:
        if issubclass(kind, ExpertBankError) and kind.__module__ == ours:
            return kind(str(error))
    return TrainingError(f"{name}: {type(error).__name__}: {error}")
