"""What the shell offers for a word that is begun: names of the bank that the command is about.

Nothing is told where the bank cannot be read: a shell that completes has no place for errors.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from .session import Session, default_home
from .words import split_globals

if TYPE_CHECKING:
    from expertbank.registry.registry import Registry


def tasks(context: typer.Context, incomplete: str) -> list[str]:
    """Live tasks of the bank."""
    return _of_bank(context, incomplete, _tasks)


def tasks_and_groups(context: typer.Context, incomplete: str) -> list[str]:
    """What can be named to answer."""

    def names(registry: Registry) -> Iterable[str]:
        groups = {task.group for task in registry.tasks()}
        return [*_tasks(registry), *sorted(group for group in groups if group)]

    return _of_bank(context, incomplete, names)


def catalogued(context: typer.Context, incomplete: str) -> list[str]:
    """Tasks of the bank and of the catalog: what ``add`` can be given."""
    from expertbank.data.catalog import catalog_names

    return _begun(incomplete, [*_of_bank(context, "", _tasks), *catalog_names()])


def routers(context: typer.Context, incomplete: str) -> list[str]:
    """Routers that answer, and the aliases."""
    return _of_bank(context, incomplete, _routers)


def named(context: typer.Context, incomplete: str) -> list[str]:
    """Whatever ``show`` can be given by name."""

    def names(registry: Registry) -> Iterable[str]:
        return [*(one.id for one in registry.experts()), *_tasks(registry), *_routers(registry)]

    return _of_bank(context, incomplete, names)


def _tasks(registry: Registry) -> Iterable[str]:
    return registry.member_tasks()


def _routers(registry: Registry) -> Iterable[str]:
    kept = [f"router@{one.version}" for one in registry.routers() if not one.forgotten_at]
    return [*kept, *(alias.name for alias in registry.aliases())]


def _of_bank(
    context: typer.Context, incomplete: str, names: Callable[[Registry], Iterable[str]]
) -> list[str]:
    from expertbank.errors import ExpertBankError

    with suppress(ExpertBankError, OSError), Session(_home(context)).registry() as registry:
        return _begun(incomplete, names(registry))
    return []


def _home(context: typer.Context) -> str:
    """The bank of the line so far; a global option may stand after the command."""
    given = context.find_root().params.get("home")
    if given is None:
        front, _ = split_globals(_line())
        given = next((word[7:] for word in front if word[:7] == "--home="), None)
    return given or default_home()


def _line() -> list[str]:
    """The words of the line so far, from typer's variable for bash or that for other shells."""
    told = os.environ.get("_TYPER_COMPLETE_ARGS")
    if told is None:  # bash parts words at these signs, as in --home=URL
        told = re.sub(" ([=:]+) ", r"\1", os.environ.get("COMP_WORDS", ""))
    lexer = shlex.shlex(told, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    found: list[str] = []
    with suppress(ValueError):  # a quote is still open: the word that is being completed
        found.extend(lexer)
    return found


def _begun(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})
