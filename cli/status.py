"""``status``, and ``expertbank`` alone: how the bank stands and what to do next."""

from __future__ import annotations

from dataclasses import replace

import typer

from .render import print_facts
from .session import Session


def status(context: typer.Context) -> None:
    """Tell how the bank stands, and what to do next; `expertbank` alone does the same.

    Example: expertbank status
    """
    session: Session = context.obj
    with session.bank(read_only=True) as bank:
        found = bank.status()
    here = session.outcome.here
    found = replace(
        found, steps=tuple(replace(one, command=here(one.command)) for one in found.steps)
    )
    session.answer(found.to_dict(), lambda console: print_facts(console, found.facts))


def alone(context: typer.Context) -> None:
    """Answer ``expertbank`` without a command: where there is no bank yet, with the help.

    Raises:
        typer.BadParameter: a program asked, which must have forgotten its command.
    """
    from expertbank.errors import NotFoundError

    session: Session = context.obj
    if session.as_json:
        raise typer.BadParameter("with --json name a command, such as: expertbank --json status")
    try:
        status(context)
    except NotFoundError:
        session.plain(context.get_help() + "\n")
        session.remark(
            f"there is no bank at {session.home} yet; the first expertbank add makes one, such as: "
            "expertbank add --task bbc_news (the catalog: expertbank tasks)"
        )
