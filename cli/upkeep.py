"""``verify`` and ``db``: looking after the bank."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .render import print_facts, size
from .session import Session

db = typer.Typer(no_args_is_help=True, help="Upgrade or back up the database.")


def verify(context: typer.Context) -> None:
    """Check the database, rehash every file.

    Example: expertbank verify
    """
    from expertbank.errors import IntegrityError

    session: Session = context.obj
    with session.bank(read_only=True) as bank, session.progress() as progress:
        found = bank.verify(progress=progress)

    def show(console: Console) -> None:
        for problem in found.problems:
            print_facts(
                console,
                [("problem", problem.what), ("where", problem.where), ("to do", problem.todo)],
            )
        print_facts(
            console,
            [
                ("database", "sound" if found.ok else "see above"),
                ("files", f"{found.artifacts} rehashed, {size(found.bytes)}"),
                ("unreferenced", f"{len(found.unreferenced)} (harmless leftovers)"),
            ],
        )

    session.answer(found.to_dict(), show)
    if not found.ok:
        raise IntegrityError(f"{len(found.problems)} problems found in {session.home}")


@db.command()
def upgrade(context: typer.Context) -> None:
    """Bring an older database up to this program, after a backup beside it.

    Example: expertbank db upgrade
    """
    from expertbank.errors import NotFoundError
    from expertbank.registry import schema
    from expertbank.workflows.workspace import DATABASE

    session: Session = context.obj
    path = session.home / DATABASE
    if not path.is_file():
        raise NotFoundError(f"no bank at {session.home}")
    done = schema.upgrade(path)
    document = {
        "before": done.before,
        "after": done.after,
        "backup": str(done.backup) if done.backup else None,
    }
    session.answer(
        document,
        lambda console: print_facts(
            console,
            [
                ("schema", f"{done.before} → {done.after}"),
                ("backup", done.backup or "not needed: nothing changed"),
            ],
        ),
    )


@db.command()
def backup(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(help="File to write; must not exist.")],
) -> None:
    """Write a consistent copy of the database while others may use it.

    The expert files under objects/ never change: copy them with any tool.

    Example: expertbank db backup registry-2026-01-01.db
    """
    session: Session = context.obj
    with session.registry() as registry:
        path = registry.backup(target)
    session.answer(
        {"backup": str(path)},
        lambda console: console.print(f"written: {path}", markup=False),
    )
