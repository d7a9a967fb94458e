"""``doctor``: the verdict, what to do, and then what was looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from .render import TONES, print_facts
from .session import Session
from .shared_options import Backbone

if TYPE_CHECKING:
    from expertbank.workflows.keeping.doctor import Diagnosis
    from expertbank.workflows.keeping.findings import Finding

_EXTRA = "extra "


def doctor(
    context: typer.Context,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Hash the backbone's files, whatever is remembered.")
    ] = False,
    backbone: Backbone = None,
) -> None:
    """Check what the bank runs on.

    SQLite, disk, permissions, schema, backbone, locks, packages and environment variables.
    Exits 1 if something must be done first; secrets are not shown. --json has the version of
    every package.

    Example: expertbank doctor
    """
    import os

    from expertbank.workflows.keeping.doctor import diagnose

    session: Session = context.obj
    found = diagnose(session.home, os.environ, rehash=rehash, backbone=backbone)

    def show(console: Console) -> None:
        problems, warnings, sound = (
            [one for one in found.findings if one.state == state]
            for state in ("problem", "warning", "ok")
        )
        tone = TONES[(problems or warnings or sound)[0].state]
        console.print(_verdict(len(problems), len(warnings)), markup=False, style=f"bold {tone}")
        for one in (*problems, *warnings):
            todo = session.outcome.here(one.todo)
            print_facts(console, [(one.state, f"{one.subject}: {one.found}"), ("to do", todo)])
        console.print()
        print_facts(console, [("home", found.home), *_sound(sound), *_runs_on(found)])

    session.answer(found.to_dict(), show)
    if not found.healthy:
        raise typer.Exit(1)


def _verdict(problems: int, warnings: int) -> str:
    counts = {"problem": problems, "warning": warnings}
    told = ", ".join(
        f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items() if count
    )
    if problems:
        return f"not healthy: {told}"
    return f"healthy, with {told}" if told else "healthy: nothing to do"


def _sound(findings: Sequence[Finding]) -> list[tuple[str, Any]]:
    """A line for each thing that is as it should be, and one for all extras."""
    extras = [one for one in findings if one.subject.startswith(_EXTRA)]
    there = [one.subject.removeprefix(_EXTRA) for one in extras if not one.todo]
    absent = [one.subject.removeprefix(_EXTRA) for one in extras if one.todo]
    told = ", ".join(there) or "none"
    if absent:
        told += f"; for the others: pip install 'expertbank[{','.join(absent)}]'"
    others = [(one.subject, one.found) for one in findings if one not in extras]
    return [*others, ("extras", told)]


def _runs_on(found: Diagnosis) -> list[tuple[str, Any]]:
    from expertbank.workflows.environment import PACKAGES

    versions = [f"{name} {found.packages[name]}" for name in PACKAGES if name in found.packages]
    return [("versions", ", ".join(versions)), *found.environment.items()]
