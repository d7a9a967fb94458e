"""The ``expertbank`` command: its commands and its global options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from . import (
    browse,
    collecting,
    experts,
    grouping,
    importing,
    mapping,
    predicting,
    routing,
    serving,
    shipping,
    status,
    tasks,
    unknown,
    upkeep,
)
from .outcome import Outcome
from .session import Session, default_home

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A bank of frozen TT-LoRA experts that only grows.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"expertbank {version('expertbank')}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    home: Annotated[
        str | None,
        typer.Option(
            metavar="DIR_OR_URL",
            help="The bank's folder, or postgresql+psycopg://user@host/database; default "
            "$EXPERTBANK_HOME, else the data folder.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout, the rest on stderr.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no remarks.")] = False,
    device: Annotated[
        str | None,
        typer.Option(help="Where the backbone runs: cuda, cuda:1, mps or cpu; default the best."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """A bank of frozen TT-LoRA experts that only grows.

    Add a task in minutes; old experts never change; one command ships the bank. Global options
    may also stand after the command.
    """
    context.obj = Session(
        default_home() if home is None else home, as_json, quiet, device, context.obj or Outcome()
    )
    if context.invoked_subcommand is None:
        status.alone(context)


_COMMANDS: dict[str, Callable[..., None]] = {
    "init": experts.init,
    "add": experts.add,
    "retrain-router": routing.retrain_router,
    "forgetting-report": routing.forgetting_report,
    "export": shipping.export,
    "predict": predicting.predict,
    "evaluate": shipping.evaluate,
    "unknowns": unknown.unknowns,
    "serve": serving.serve,
    "status": status.status,
    "map": mapping.bank_map,
    "list": browse.list_experts,
    "show": browse.show,
    "history": browse.history,
    "alias": routing.alias,
    "import": importing.import_experts,
    "verify": upkeep.verify,
    "doctor": upkeep.doctor,
    "group": grouping.group,
    "remove": collecting.remove,
    "gc": collecting.gc,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
app.add_typer(tasks.tasks, name="tasks")
app.add_typer(upkeep.db, name="db")
