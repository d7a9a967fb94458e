"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from expertbank.records import ProgressEvent
from expertbank.texts import printable

PLAIN_INTERVAL = 15.0
"""Seconds between lines where there is no terminal, such as a CI log; short work says nothing."""


@dataclass(slots=True)
class _Stage:
    """One stage that lines are said of, where there is no terminal."""

    name: str
    begun: float
    told: bool = False


class ProgressView:
    """A progress callback with a beginning and an end.

    Args:
        console: where it draws.
        quiet: draw nothing.
        lasting: told what is done for good, as soon as it is.
    """

    def __init__(
        self, console: Console, *, quiet: bool, lasting: Callable[[str], None] = lambda _: None
    ) -> None:
        self._console = console
        self._lasting = lasting
        self._quiet = quiet
        self._told = time.monotonic()
        self._bar: Progress | None = None
        self._shown: dict[str, tuple[str, TaskID]] = {}
        self._stages: dict[str, _Stage] = {}

    def __enter__(self) -> ProgressView:
        if self._console.is_terminal and not self._quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                console=self._console,
                transient=True,
                # Results go past the bar only where both are on the terminal.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        for of in [] if error else list(self._stages):
            self._end(of)

    def __call__(self, event: ProgressEvent) -> None:
        """Show ``event``."""
        if event.lasting:
            self._lasting(event.lasting)
        for warning in () if self._quiet else event.warnings:
            self._console.print(printable(f"warning: {warning}"), markup=False)
        detail = event.detail
        if event.seconds_left is not None and event.done < event.total:
            detail = f"{detail}  {_duration(event.seconds_left)} left".strip()
        if self._bar is not None:
            self._draw(self._bar, event, detail)
        elif not self._quiet:
            self._say(event, detail)

    def _draw(self, bar: Progress, event: ProgressEvent, detail: str) -> None:
        """One bar, or one for each of several works; it begins anew with every stage."""
        stage, task = self._shown.get(event.of, ("", None))
        if event.stage != stage or task is None:
            if task is not None:
                bar.remove_task(task)
            task = bar.add_task(event.stage, total=event.total, detail=detail)
            self._shown[event.of] = event.stage, task
        bar.update(task, completed=event.done, total=event.total, detail=detail)
        if event.of and event.done == event.total:
            bar.remove_task(self._shown.pop(event.of)[1])

    def _say(self, event: ProgressEvent, detail: str) -> None:
        now, stage = time.monotonic(), self._stages.get(event.of)
        if stage is None or stage.name != event.stage:
            self._end(event.of)
            stage = self._stages[event.of] = _Stage(event.stage, now)
        if event.done >= event.total:
            self._end(event.of)
        elif now - self._told >= PLAIN_INTERVAL:
            self._told, stage.told = now, True
            line = f"{event.stage}: {event.done}/{event.total}  {detail}".rstrip()
            self._console.print(line, markup=False)

    def _end(self, of: str) -> None:
        """The last line of a stage that lines were said of: that it is done."""
        stage = self._stages.pop(of, None)
        if stage is not None and stage.told:
            seconds = time.monotonic() - stage.begun
            self._console.print(f"{stage.name}: done in {_duration(seconds)}", markup=False)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
