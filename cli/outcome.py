"""What a command did so far, and how far it is with showing it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field


@dataclass(slots=True)
class Outcome:
    """What is known of a command while it runs.

    Attributes:
        words: the command, as it was given.
        done: what it committed, as sentences.
        todo: the command that does what was asked for too and is not done, if anything is.
        resume: says that an interrupted run can go on, and how; empty where none can.
        showing: whether all its work is done, and only showing is left.
        lost: why the result could not be shown, if it could not.
    """

    words: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    todo: str = ""
    resume: str = ""
    showing: bool = False
    lost: BaseException | None = None

    def to_dict(self) -> dict[str, object]:
        """What is said of it beside an error, as JSON."""
        told: dict[str, object] = {"done": self.done} if self.done else {}
        return told | ({"todo": self.todo} if self.todo else {})

    @property
    def again(self) -> str:
        """The command as one would type it."""
        return shlex.join(["expertbank", *self.words])

    @property
    def told(self) -> str:
        """What was done and what is left, as the end of a sentence."""
        done = f"; done: {'; '.join(self.done)}" if self.done else ""
        return done + (f"; to do: {self.todo}" if self.todo else "")
