"""``remove`` and ``gc``: taking a task out, and deleting what nothing needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from expertbank.config import GRACE_HOURS
from expertbank.records import no_progress
from expertbank.wording import count

from . import completing
from .following import follow
from .render import Table, print_facts, print_table, size
from .session import Session
from .shared_options import DryRun, RetrainRouter, Yes

if TYPE_CHECKING:
    from expertbank.bank import Bank
    from expertbank.records import ProgressCallback
    from expertbank.workflows.keeping.remove import Removal
    from expertbank.workflows.keeping.survey import Collection


def remove(
    context: typer.Context,
    task: Annotated[str, typer.Option(help="Task to remove.", autocompletion=completing.tasks)],
    dry_run: DryRun = False,
    yes: Yes = False,
    retrain_router: RetrainRouter = False,
) -> None:
    """Leave a task out of every router to come.

    Nothing is deleted: the expert, its evidence and the old routers stay. `add --new-version`
    makes the task alive again, `gc --purge-removed` deletes its files.

    Example: expertbank remove --task boolq --retrain-router
    """
    session: Session = context.obj
    if not dry_run and not yes:
        with session.bank(read_only=True) as bank:
            before = bank.remove(task, dry_run=True)
        if not before.already:
            session.confirm(f"Remove task {task} ({', '.join(before.experts)})?")
    with session.bank(read_only=dry_run) as bank, session.progress() as progress:
        done = bank.remove(task, dry_run=dry_run)
        if not dry_run and not done.already:
            session.did(f"the task {task} was removed")
        alive = bool(bank.registry.members())
        refit = retrain_router and not dry_run and alive
        after = follow(session, bank, progress, retrain=refit, todo=done.todo)
    session.answer(after.beside(done.to_dict()), lambda console: _print_removal(console, done))
    if retrain_router and not alive:
        session.remark("no task is left to route to: the old router stays active")
    else:
        after.tell(session, f"{after.name} without {task} is active", "to do")


def _print_removal(console: Console, done: Removal) -> None:
    state = "would be removed" if done.dry_run else "removed"
    if done.already:
        state = "was removed before; nothing was done"
    kept = [name for name in done.experts if name not in done.purged]
    files = []
    if kept:
        files.append(("kept", f"{', '.join(kept)} (delete with: expertbank gc --purge-removed)"))
    if done.purged:
        files.append(("deleted", f"{', '.join(done.purged)} (by gc --purge-removed)"))
    print_facts(
        console,
        [
            ("task", f"{done.task}: {state}"),
            *files,
            ("in routers", ", ".join(f"router@{version}" for version in done.routers) or "none"),
        ],
    )


def gc(
    context: typer.Context,
    dry_run: DryRun = False,
    yes: Yes = False,
    purge_removed: Annotated[
        bool,
        typer.Option(
            "--purge-removed",
            help="Also delete the files of removed tasks; routers that need them end.",
        ),
    ] = False,
    keep_routers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Also forget routers that are not among the N newest; aliases keep theirs.",
        ),
    ] = None,
    grace: Annotated[
        float, typer.Option(min=0, help="Leave leftovers alone that are younger, in hours.")
    ] = GRACE_HOURS,
) -> None:
    """Delete what nothing refers to.

    Files that interrupted commands left behind. No command can write meanwhile: others wait, or
    this one gives up with exit code 11. Backups of the database are never deleted. A router that
    is forgotten stays in list, show and history; what every task was first measured by stays too,
    so reports still compare with it.

    Example: expertbank gc --keep-routers 5 --dry-run
    """
    session: Session = context.obj

    def collect(bank: Bank, dry_run: bool, progress: ProgressCallback = no_progress) -> Collection:
        return bank.gc(
            dry_run=dry_run,
            purge_removed=purge_removed,
            keep_routers=keep_routers,
            grace_hours=grace,
            progress=progress,
        )

    if not dry_run and not yes:
        with session.bank(read_only=True) as bank:
            before = collect(bank, True)
        if before.deleted:
            session.confirm(f"Delete {count(len(before.deleted), 'file')}, {size(before.bytes)}?")
    with session.bank(read_only=dry_run) as bank, session.progress() as progress:
        done = collect(bank, dry_run, progress)
    session.answer(done.to_dict(), lambda console: _print_collection(console, done))
    for kept in done.kept:
        session.remark(f"kept: {kept.what}; {kept.todo}")


def _print_collection(console: Console, done: Collection) -> None:
    if done.deleted:
        print_table(
            console,
            Table(("file", "size", "what it is"), numeric=("size",), wrapped=("what it is",)),
            ((leftover.where, size(leftover.bytes), leftover.why) for leftover in done.deleted),
        )
    facts = [
        (
            "would delete" if done.dry_run else "deleted",
            f"{count(len(done.deleted), 'file')}, {size(done.bytes)}",
        )
    ]
    if done.purged:
        facts.append(("purged", ", ".join(done.purged)))
    for name, versions in (("no longer usable", done.routers), ("forgotten", done.forgotten)):
        if versions:
            facts.append((name, ", ".join(f"router@{version}" for version in versions)))
    print_facts(console, facts)
