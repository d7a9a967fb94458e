"""The ``expertbank`` command: its commands, its global options, its exit codes."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from expertbank.errors import ExpertBankError

from . import browse, collecting, experts, importing, routing, shipping, tasks, upkeep
from .render import printable
from .session import Session, default_home

INTERRUPTED = 130
USAGE = 2
DISK = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""What a full or broken disk says; any other failure of the system is a defect of ours."""
_FLAGS = ("--json", "--quiet")
_VALUED = ("--home", "--device")

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A bank of frozen TT-LoRA experts that only grows.",
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
        Path | None,
        typer.Option(help="The bank's folder; default $EXPERTBANK_HOME, else the data folder."),
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
    context.obj = Session(home or default_home(), as_json, quiet, device)


_COMMANDS: dict[str, Callable[..., None]] = {
    "init": experts.init,
    "add": experts.add,
    "retrain-router": routing.retrain_router,
    "forgetting-report": routing.forgetting_report,
    "export": shipping.export,
    "predict": shipping.predict,
    "evaluate": shipping.evaluate,
    "list": browse.list_experts,
    "show": browse.show,
    "history": browse.history,
    "alias": routing.alias,
    "import": importing.import_bundle,
    "verify": upkeep.verify,
    "doctor": upkeep.doctor,
    "remove": collecting.remove,
    "gc": collecting.gc,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
app.add_typer(tasks.tasks, name="tasks")
app.add_typer(upkeep.db, name="db")


def run(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    words = globals_first(list(sys.argv[1:] if arguments is None else arguments))
    as_json = "--json" in words[: _count_globals(words)]
    try:
        code = app(args=words, prog_name="expertbank", standalone_mode=False)
        if code == INTERRUPTED:  # Typer caught Ctrl-C itself, and says nothing
            raise KeyboardInterrupt
    except typer.Exit as error:
        code = error.exit_code
    except TyperException as error:
        _fail(error.format_message(), USAGE, as_json)
        code = USAGE
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; nothing half-done was kept", INTERRUPTED, as_json)
        code = INTERRUPTED
    except ExpertBankError as error:
        _fail(str(error), error.exit_code, as_json)
        code = error.exit_code
    except BrokenPipeError:
        # The reader went away (`| head`): not worth a word, but not a success either.
        sys.stderr.close()
        code = 1
    except OSError as error:
        if error.errno not in DISK:
            raise
        where = error.filename or "standard output or a temporary file"
        _fail(f"cannot write {where}: {error.strerror}; free space or check the disk", 1, as_json)
        _drop_unwritten()
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int, as_json: bool) -> None:
    if as_json:
        text = json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False)
    else:
        # Messages quote file names, columns and labels of users' data.
        text = "\n".join(printable(line) for line in f"expertbank: {message}".split("\n"))
    sys.stderr.write(text + "\n")


def _drop_unwritten() -> None:
    """Give up output that cannot be written, so that leaving does not try it once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def globals_first(words: list[str]) -> list[str]:
    """Move the global options to the front, wherever they stand; ``--`` ends the search."""
    front: list[str] = []
    rest: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        if word == "--":
            rest += words[position:]
            break
        if word in _FLAGS or word.startswith(tuple(f"{option}=" for option in _VALUED)):
            front.append(word)
        elif word in _VALUED and position + 1 < len(words):
            front += words[position : position + 2]
            position += 1
        else:
            rest.append(word)
        position += 1
    return front + rest


def _count_globals(words: list[str]) -> int:
    count = 0
    while count < len(words) and words[count].startswith("--"):
        count += 2 if words[count] in _VALUED else 1
    return count


if __name__ == "__main__":
    run()
