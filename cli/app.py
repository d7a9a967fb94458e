"""The ``expertbank`` command: its commands and its global options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from .commands import COMMANDS
from .given_once import Command
from .outcome import Outcome
from .session import Session, default_home


class _Built(Mapping[str, Any]):
    """The commands, each imported and built when it is first asked for: only one is run."""

    def __getitem__(self, name: str) -> Any:
        return _build(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


@cache
def _build(name: str) -> Any:
    module, _, attribute = COMMANDS[name].partition(".")
    own = getattr(import_module(f".{module}", __package__), attribute)
    if isinstance(own, typer.Typer):
        group = typer.main.get_command(own)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, cls=Command)(own)
    return typer.main.get_command(alone)


class _Commands(typer.core.TyperGroup):
    """The group of all commands."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given | {"commands": _Built()})


app = typer.Typer(
    cls=_Commands,
    invoke_without_command=True,
    help="A bank of frozen TT-LoRA experts that only grows.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


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
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """A bank of frozen TT-LoRA experts that only grows.

    Add a task in minutes; old experts never change; one command ships the bank. Global options
    may also stand after the command.
    """
    session = context.obj = Session(
        default_home() if home is None else home, as_json, quiet, device, context.obj or Outcome()
    )
    if version:
        from importlib.metadata import version as version_of

        own = version_of("expertbank")
        session.answer({"version": own}, lambda console: console.print(f"expertbank {own}"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        from .status import alone

        alone(context)
