"""What a command did so far, and how far it is with showing it."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from expertbank.errors import ExpertBankError, InputError

from .commands import COMMANDS
from .words import split_globals

_ADVISING = frozenset({"todo", "message", "warnings", "remarks"})
_ADVISED = re.compile(r"(?<![\w./=@-])expertbank (?=([a-z][a-z-]*))")


@dataclass
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
        return told | ({"todo": self.here(self.todo)} if self.todo else {})

    @cached_property
    def _home(self) -> str:
        """The bank as it was given by ``--home``; empty where it was not."""
        with suppress(InputError):  # an option without its value
            for word in split_globals(self.words)[0]:
                if word.startswith("--home="):
                    return word.removeprefix("--home=")
        return ""

    @cached_property
    def _bank(self) -> str:
        """``--home`` to stand in commands; empty where none was given."""
        return f"--home {shlex.quote(_shown(self._home))} " if self._home else ""

    def here(self, text: str) -> str:
        """A text whose commands are about the bank that this command was about."""
        if not _ADVISED.search(text) or not self._bank:
            return text
        about_a_bank = COMMANDS.keys() - {"tasks"}
        return _ADVISED.sub(
            lambda found: found[0] + (self._bank if found[1] in about_a_bank else ""), text
        )

    def all_here(self, document: Any) -> Any:
        """A document in which what advises (``todo``, ``message``, …) is such a text."""
        if not self._bank:
            return document
        if isinstance(document, dict):
            return {
                key: self._advice(value) if key in _ADVISING else self.all_here(value)
                for key, value in document.items()
            }
        if isinstance(document, list | tuple):
            return [self.all_here(value) for value in document]
        return document

    def _advice(self, said: Any) -> Any:
        if isinstance(said, list | tuple):
            return [self._advice(one) for one in said]
        return self.here(said) if isinstance(said, str) else self.all_here(said)

    @property
    def again(self) -> str:
        """The command as one would type it, its global options in front; without a password."""
        front, rest = split_globals(self.words)
        shown = [
            f"--home={_shown(self._home)}" if one.startswith("--home=") else one for one in front
        ]
        return shlex.join(["expertbank", *shown, *rest])

    @property
    def told(self) -> str:
        """What was done and what is left, as the end of a sentence."""
        done = f"; done: {'; '.join(self.done)}" if self.done else ""
        return done + (f"; to do: {self.todo}" if self.todo else "")


def _shown(home: str) -> str:
    """A home as it may be shown: of a database's URL nothing that is secret."""
    from expertbank.workflows.home import home_at, is_url

    if not is_url(home):
        return home
    try:
        return str(home_at(home))
    except ExpertBankError:
        return "URL"
