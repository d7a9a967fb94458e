"""``verify`` and ``db``: looking after the bank."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .given_once import Command
from .options import path
from .render import print_facts, size
from .session import Session
from .shared_options import Backbone, DryRun, Yes

if TYPE_CHECKING:
    from expertbank.registry.location import Upgrade

db = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    add_completion=False,
    help="Upgrade, back up, restore or copy the database.",
)


@db.callback()
def database(context: typer.Context) -> None:
    """Upgrade, back up, restore or copy the database.

    The expert files under objects/ never change; everything that moves is in one SQLite file.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def verify(context: typer.Context, backbone: Backbone = None) -> None:
    """Check the database, rehash every file.

    Example: expertbank verify
    """
    from expertbank.errors import IntegrityError

    session: Session = context.obj
    there = session.bank(read_only=True, backbone=backbone)
    with there as bank, session.progress() as progress:
        found = bank.verify(progress=progress)

    def show(console: Console) -> None:
        for problem in found.problems:
            print_facts(
                console,
                [
                    ("problem", problem.what),
                    ("where", problem.where),
                    ("to do", session.outcome.here(problem.todo)),
                ],
            )
        print_facts(
            console,
            [
                ("database", "sound" if found.ok else "see above"),
                ("files", f"{found.artifacts} rehashed, {size(found.bytes)}"),
                ("unreferenced", _unreferenced(len(found.unreferenced))),
            ],
        )

    session.answer(found.to_dict(), show)
    if not found.artifacts:
        session.remark("note: the bank holds no file yet, so no file was verified")
    if not found.ok:
        raise IntegrityError(f"{len(found.problems)} problems found in {session.home}")


def _unreferenced(count: int) -> str:
    return f"{count} (harmless leftovers; delete with: expertbank gc)" if count else "none"


@db.command(cls=Command)
def upgrade(context: typer.Context) -> None:
    """Bring an older database up to this program, after a backup beside it.

    A database of PostgreSQL is upgraded in one transaction; back it up with pg_dump before.

    Example: expertbank db upgrade
    """
    session: Session = context.obj
    done = session.home.location.upgrade()
    session.did(f"the database is at schema {done.after}")
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
                ("backup", done.backup or _no_backup(done)),
            ],
        ),
    )


def _no_backup(done: Upgrade) -> str:
    return "not needed: nothing changed" if done.before == done.after else "none: see pg_dump"


@db.command(cls=Command)
def backup(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(parser=path, help="File to write; must not exist.")],
) -> None:
    """Write a consistent copy of the database while others may use it.

    For a bank in a folder; PostgreSQL has pg_dump. The expert files under objects/ never change:
    copy them with any tool.

    Example: expertbank db backup registry-2026-01-01.db
    """
    session: Session = context.obj
    with session.registry() as registry:
        copy = registry.backup(target)
    session.did(f"the database was copied to {copy}")
    session.answer({"backup": str(copy)}, lambda console: print_facts(console, [("written", copy)]))


@db.command(cls=Command)
def restore(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(parser=path, help="A file that db backup or an upgrade wrote.")
    ],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Put a backup in the place of the present database.

    For a bank in a folder; PostgreSQL has pg_restore. It is checked first: a sound registry, no
    newer than this program, all of whose files are there. An older one is upgraded on the way. The
    present database is kept beside it.

    Example: expertbank db restore registry-2026-01-01.db
    """
    from expertbank.workflows.home import RESTORE_INSTEAD, folder_of
    from expertbank.workflows.keeping.restore import restore as put_back

    from .session import lock_wait

    session: Session = context.obj
    wait = lock_wait()
    home = folder_of(session.home, "db restore", RESTORE_INSTEAD)
    with session.progress() as progress:
        if not dry_run and not yes:
            put_back(home, source, dry_run=True, progress=progress)
    if not dry_run and not yes:
        session.confirm(f"Replace the database in {session.home} by {source}?")
    with session.progress() as progress:
        done = put_back(home, source, dry_run=dry_run, lock_wait=wait, progress=progress)
    session.answer(
        done.to_dict(),
        lambda console: print_facts(
            console,
            [
                ("would restore" if dry_run else "restored", done.source),
                ("schema", done.revision),
                ("holds", f"{done.experts} experts, {done.routers} routers"),
                ("backup", done.backup or "none made"),
            ],
        ),
    )


@db.command(name="copy", cls=Command)
def copy_bank(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="The bank: a folder or a database's URL.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="DST", help="Where it shall be: a folder or a database's URL.")
    ],
    store: Annotated[
        str | None,
        typer.Option(help="URL of the copy's store; a database needs one, a folder has its own."),
    ] = None,
) -> None:
    """Copy a bank to another place: folder to PostgreSQL and S3, or back.

    Experts, routers, history and numbers stay what they are. Every file is hashed where it comes
    to lie, every row compared. When it was interrupted, the same command goes on; later it brings
    over what was added since, as long as nobody wrote to the copy.

    Example: expertbank db copy ./bank postgresql+psycopg://host/bank --store s3://bucket/bank
    """
    from expertbank.workflows.home import home_at
    from expertbank.workflows.keeping.copying import copy_bank as copied

    from .session import cache_folder, lock_wait

    session: Session = context.obj
    cache = cache_folder()
    wait = lock_wait()
    with session.progress() as progress:
        done = copied(
            home_at(source, cache),
            home_at(target, cache),
            store=store,
            lock_wait=wait,
            progress=progress,
        )
    session.answer(
        done.to_dict(),
        lambda console: print_facts(
            console,
            [
                ("from", done.source),
                ("to", done.target),
                ("files", done.store or "in its folder"),
                ("holds", f"{done.experts} experts, {done.routers} routers"),
                ("rows", f"{done.rows} copied and compared" if done.rows else "all there, equal"),
                ("verified", f"{done.files} files, {done.copied} copied ({size(done.bytes)})"),
            ],
        ),
    )
