"""Progress in a log: a line now and then, and a last one that says that a stage is done."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import pytest
from expertbank_cli import progress
from rich.console import Console

from expertbank.records import ProgressEvent


class Log:
    """What a log gets of events, each ``step`` seconds after the one before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, quiet: bool = False) -> None:
        self.now, self.step = 0.0, 10
        self.out = io.StringIO()
        self.view = progress.ProgressView(Console(file=self.out, width=200), quiet=quiet)
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)
        self.view._told = 0.0

    def sees(self, *events: ProgressEvent) -> list[str]:
        return self.gets(events)

    def gets(self, events: Iterable[ProgressEvent]) -> list[str]:
        with self.view as view:
            for event in events:
                view(event)
                self.now += self.step
        return self.out.getvalue().splitlines()


def training(done: int, of: str = "") -> ProgressEvent:
    return ProgressEvent("training", done, 4, "loss 1", seconds_left=2, of=of)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    return Log(monkeypatch)


def test_the_last_line_of_a_stage_says_that_it_is_done_and_how_long_it_took(log: Log) -> None:
    assert log.sees(*map(training, range(5))) == [
        "training: 2/4  loss 1  2 s left",
        "training: done in 40 s",
    ]


def test_a_stage_that_ends_early_is_done_where_the_next_begins_or_all_is(log: Log) -> None:
    shown = log.sees(training(0), training(1), training(2), ProgressEvent("measuring", 0, 9))
    assert shown[-1] == "training: done in 30 s"
    again = log.sees(ProgressEvent("measuring", 1, 9), ProgressEvent("measuring", 2, 9))
    assert again[-1].startswith("measuring: done in ")


def test_short_stages_say_nothing_at_all(log: Log) -> None:
    assert log.sees(ProgressEvent("reading", 0, 2), ProgressEvent("reading", 2, 2)) == []


def test_stages_of_works_at_once_end_one_by_one(log: Log) -> None:
    log.step = 20
    shown = log.sees(*(training(done, of) for done in range(5) for of in ("a", "b")))
    assert [line for line in shown if "done" in line] == ["training: done in 2 min 40 s"] * 2


def test_a_stage_that_failed_is_not_called_done(log: Log) -> None:
    def failing() -> Iterator[ProgressEvent]:
        yield from map(training, range(3))
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        log.gets(failing())
    assert "done" not in log.out.getvalue()


def test_warnings_are_told_at_once_unless_nothing_shall_be(monkeypatch: pytest.MonkeyPatch) -> None:
    warned = ProgressEvent("read", 1, 1, warnings=("mood: odd \x1b[31m",))
    assert Log(monkeypatch).sees(warned) == [r"warning: mood: odd \x1b[31m"]
    assert Log(monkeypatch, quiet=True).sees(warned) == []
