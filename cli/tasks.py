"""``tasks``: the catalog, and one task in full."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from . import completing
from .checking import check
from .given_once import Command
from .grouping import remark
from .options import path
from .render import Table, print_table, print_yaml
from .session import Session

if TYPE_CHECKING:
    from expertbank.data import TaskSpec


class _TasksGroup(TyperGroup):
    """``tasks boolq`` means ``tasks show boolq``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that ``args`` name; a word that is none is a task to show."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["show", *args]
        return super().resolve_command(ctx, args)


tasks = typer.Typer(
    cls=_TasksGroup,
    invoke_without_command=True,
    rich_markup_mode=None,
    add_completion=False,
    help="List the catalog, show one task, or check data before training on it.",
)

SpecFile = Annotated[
    Path | None,
    typer.Option(parser=path, help="A task of your own: YAML with the fields of the catalog."),
]


@tasks.callback()
def list_tasks(context: typer.Context) -> None:
    """List the catalog; `tasks show T` shows one task, `tasks check SRC` tries out data.

    Example: expertbank tasks
    """
    if context.invoked_subcommand is not None:
        return
    from expertbank.data import catalog_names, catalog_spec
    from expertbank.workflows.growing.grouping import Stale

    session: Session = context.obj
    added: dict[str, str | None] = {}
    stale = Stale()
    with session.registry_if_any() as registry:  # the catalog can be read without
        if registry is not None:
            added = {task.name: task.group for task in registry.tasks()}
            stale = Stale.of(registry)
    specs = [catalog_spec(known) for known in catalog_names()]
    document = {
        "tasks": [
            {
                "task": spec.name,
                "kind": spec.kind,
                "description": spec.description,
                "licence": spec.licence,
                "sources": [source.ref for source in spec.sources],
                "added": spec.name in added,
                "group": added.get(spec.name),
            }
            for spec in specs
        ]
    }
    session.answer(
        document,
        lambda console: print_table(
            console,
            Table(("task", "kind", "added", "description"), wrapped=("description",)),
            ((spec.name, spec.kind, _state(spec.name, added), spec.description) for spec in specs),
        ),
    )
    remark(session, stale)


def _state(task: str, added: Mapping[str, str | None]) -> str:
    """Whether a task is in the bank, and in which group."""
    group = added.get(task)
    return "no" if task not in added else f"yes, in {group}" if group else "yes"


@tasks.command(cls=Command)
def show(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="A task of the catalog.", autocompletion=completing.catalogued),
    ] = None,
    spec: SpecFile = None,
) -> None:
    """Show one task in full: columns, labels, sources and split.

    It is YAML that --spec takes: the beginning of a task of your own.

    Example: expertbank tasks show boolq
    """
    from expertbank.data.spec_file import written

    session: Session = context.obj
    task = _known(name, spec)
    session.answer(task.to_dict(), lambda console: print_yaml(console, written(task)))


def _known(name: str | None, file: Path | None) -> TaskSpec:
    """The task that a name of the catalog or a file means."""
    from expertbank.data import catalog_spec, load_spec
    from expertbank.errors import InputError

    if file is None:
        if name is None:
            raise InputError("name a task, or give a task file with --spec")
        return catalog_spec(name, "expertbank show shows what a bank holds of a task of your own")
    spec = load_spec(file)
    if name is not None and name != spec.name:
        raise InputError(f"{file} describes the task {spec.name!r}, not {name!r}; drop one")
    return spec


tasks.command(cls=Command)(check)
