"""``group``: which tasks answer the same texts together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .following import follow
from .render import Table, print_table
from .session import Session
from .shared_options import DryRun, RetrainRouter

if TYPE_CHECKING:
    from expertbank.registry.registry import Registry
    from expertbank.workflows.growing.grouping import Grouped, Stale

ALONE = "alone"


def group(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME TASK",
            help="Name of the group and its tasks; with --ungroup tasks only.",
        ),
    ] = None,
    ungroup: Annotated[
        bool, typer.Option("--ungroup", help="Let the tasks stand alone again.")
    ] = False,
    dry_run: DryRun = False,
    retrain_router: RetrainRouter = False,
) -> None:
    """Let tasks answer the same texts together; without words, list the groups.

    The router picks the group, and all its experts answer. It takes effect with the next
    `retrain-router`: no expert is trained or changed, and routers that are fitted keep their
    groups. Tasks that were in another group leave it.

    Example: expertbank group tweets irony hate offence emotion --retrain-router
    """
    session: Session = context.obj
    if not words:
        if ungroup:
            raise typer.BadParameter("name the tasks, such as: expertbank group --ungroup irony")
        if dry_run or retrain_router:
            raise typer.BadParameter(
                "name the group and its tasks, such as: expertbank group tweets irony hate"
            )
        _list(session)
        return
    name, tasks = (None, words) if ungroup else (words[0], words[1:])
    if not tasks:
        raise typer.BadParameter(
            f"name the tasks too, such as: expertbank group {name} irony hate; "
            "expertbank group alone lists the groups"
        )
    with session.bank(read_only=dry_run) as bank, session.progress() as progress:
        if name is None:
            done = bank.ungroup(tasks, dry_run=dry_run)
        else:
            done = bank.group(name, tasks, dry_run=dry_run)
        if done.moved and not dry_run:
            session.did(_did(done))
        refit = retrain_router and not dry_run and bank.registry.has_members()
        after = follow(session, bank, progress, retrain=refit, todo=done.todo)
    session.answer(after.beside(done.to_dict()), lambda console: _print_grouped(console, done))
    after.tell(session, f"{after.name} is active", "then" if dry_run else "to do")


def _did(done: Grouped) -> str:
    tasks = ", ".join(move.task for move in done.moved)
    where = "taken out of their groups" if done.group is None else f"put into group {done.group}"
    return f"{tasks}: {where}"


def _print_grouped(console: Console, done: Grouped) -> None:
    verb = "would be moved" if done.dry_run else "moved"
    now = done.group or ALONE
    print_table(
        console,
        Table(("task", "group before", "group now", "what")),
        [
            *((move.task, move.before or ALONE, move.now or ALONE, verb) for move in done.moved),
            *((task, now, now, "was there before; nothing was done") for task in done.already),
        ],
    )


def _list(session: Session) -> None:
    from expertbank.workflows.growing.grouping import Stale

    with session.registry() as registry:
        groups, stale = groups_of(registry), Stale.of(registry)
        routers = {one.version: one.groups for one in registry.routers()}
    active = routers.get(stale.router or 0, {})
    document = {
        "groups": {name: list(tasks) for name, tasks in groups.items()},
        "active_router": stale.router,
        "active_groups": {name: list(tasks) for name, tasks in active.items()},
        "stale": stale.to_dict(),
    }
    session.answer(
        document,
        lambda console: print_table(
            console,
            Table(("group", "tasks", "active router"), wrapped=("tasks", "active router")),
            (
                (name, ", ".join(groups.get(name, ())), ", ".join(active.get(name, ())))
                for name in sorted({*groups, *active})
            ),
        ),
    )
    remark(session, stale)


def groups_of(registry: Registry) -> dict[str, tuple[str, ...]]:
    """The groups of now, by name the live tasks in each."""
    found: dict[str, tuple[str, ...]] = {}
    for task in registry.tasks():
        if task.group is not None:
            found[task.group] = (*found.get(task.group, ()), task.name)
    return dict(sorted(found.items()))


def remark(session: Session, stale: Stale) -> None:
    """Tell that the active router goes by other groups, if it does."""
    if stale.todo:
        session.remark(f"note: {stale.todo}")
