"""Pages of the documentation that are made from the program itself.

Make them anew with ``python -m expertbank_cli.reference > docs/settings.md`` and
``python -m expertbank_cli.reference commands > docs/commands.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields
from inspect import cleandoc, getdoc
from typing import Any, get_origin

import typer

from expertbank.adapters import ADAPTERS
from expertbank.config import AdapterConfig, BankConfig, TrainConfig, TuneConfig
from expertbank.http.limits import EngineConfig, HttpConfig
from expertbank.plain import Numbers
from expertbank.routing.gates import GATES
from expertbank.serving.limits import ServeConfig
from expertbank.settings import Option, options_of
from expertbank.writing import WritingConfig

from .app import app

_INTRODUCTION = """\
# Settings

Made from the classes in `expertbank.config` and beside it, which check them too. An option's name
without the dashes in front is its key in a list of tasks (`expertbank add --list`), where `-` and
`_` are the same. In Python, the class takes the field: `TrainConfig(epochs=5)`.
"""
_COMMANDS = {
    BankConfig: "Options of `init`, and of the first `add`.",
    WritingConfig: "Options of `add`, keys of its lists, and `writing` of a task file.",
    TrainConfig: "Options of `add`, keys of its lists.",
    AdapterConfig: "Options of `add`, keys of its lists.",
    TuneConfig: "Options of `add`, keys of its lists.",
    ServeConfig: "Options of `serve`.",
    HttpConfig: "Options of `serve`.",
    EngineConfig: "Options of `serve --engine`.",
}
_ADAPTER = "Given to `add --adapter {0}`, kept in an expert's lineage."
_GATE = 'Given to `retrain-router --kind {0}`; in Python, `RouterConfig("{0}", FIELD=VALUE)`.'

_COMMAND_LINE = """\
# Commands

Made from the program's own help: `expertbank COMMAND --help` says the same. The options of *every
command* may stand before the command or after it. [json.md](json.md) has what `--json` answers,
[operations.md](operations.md#exit-codes) the exit codes.
"""


def page() -> str:
    """The page of settings, as Markdown."""
    classes = [(f"`{cls.__name__}`", cls, said) for cls, said in _COMMANDS.items()]
    gates = [
        (f"The gate `{name}`", GATES.get(name).settings, _GATE.format(name)) for name in GATES.own
    ]
    kinds: list[tuple[str, Any]] = [(name, ADAPTERS.get(name).settings) for name in ADAPTERS.own]
    adapters = [
        (f"The adapter `{name}`", own, _ADAPTER.format(name)) for name, own in kinds if fields(own)
    ]
    sections = (line for one in (*classes, *adapters, *gates) for line in _section(*one))
    return "\n".join([_INTRODUCTION, *sections])


def command_page() -> str:
    """The page of commands, as Markdown."""
    top: Any = typer.main.get_command(app)
    found = list(_commands(top.commands))
    return "\n".join(
        [
            _COMMAND_LINE,
            "| command | what it does |",
            "|---|---|",
            *(
                f"| [`{name}`](#{name.replace(' ', '-')}) | {_told(one)[0]} |"
                for name, one in found
            ),
            "\n## every command\n",
            *_options(top),
            *(line for name, one in found for line in _command(name, one)),
        ]
    )


def _commands(commands: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in commands.items():
        yield f"{before}{name}", command
        yield from _commands(getattr(command, "commands", {}), f"{before}{name} ")


def _told(command: Any) -> list[str]:
    """Paragraphs of a command's help, each in one line; the first without its full stop."""
    parts = [" ".join(part.split()) for part in cleandoc(command.help or "").split("\n\n")]
    return [parts[0].removesuffix("."), *parts[1:]]


def _command(name: str, command: Any) -> Iterator[str]:
    first, *others = _told(command)
    yield f"## {name}\n"
    for part in (f"{first}.", *others):
        example = part.removeprefix("Example: ")
        yield f"{part}\n" if example == part else f"```console\n$ {example}\n```\n"
    yield from _options(command)


def _options(command: Any) -> Iterator[str]:
    params = [one for one in command.params if not one.hidden]
    if not params:
        return
    yield "| option | meaning |"
    yield "|---|---|"
    for one in params:
        names = [*one.opts, *one.secondary_opts]
        if not names[0].startswith("-"):
            names = [one.metavar or names[0].upper()]
        told = " ".join(str(one.help or "").split()).replace("|", "\\|")
        yield f"| {', '.join(f'`{name}`' for name in names)} | {told} |"
    yield ""


def _section(title: str, cls: type, given: str) -> Iterator[str]:
    yield f"## {title}\n"
    yield f"{getdoc(cls)}\n\n{given}\n"
    yield "| option | field | default | allowed | meaning |"
    yield "|---|---|---|---|---|"
    for option in options_of(cls):
        word = "--set" if given.startswith("Given to `retrain") else "--adapter-set"
        flag = option.flag if cls in _COMMANDS else f"{word} {option.field}="
        cells = (
            f"`{flag}`",
            f"`{option.field}`"
            + (f" = option x {option.about.unit:,}" if option.about.unit > 1 else ""),
            option.shown_default,
            _allowed(option),
            option.about.help,
        )
        yield f"| {' | '.join(cells)} |"
    yield ""


def _allowed(option: Option) -> str:
    if option.choices:
        return ", ".join(option.choices)
    if get_origin(option.kind) is tuple:
        return "any number of times"
    if option.kind == Numbers:
        return f"whole numbers {option.about.bounds}, one or with commas between"
    words = {int: "whole number", float: "number", bool: "flag", str: "text"}
    return " ".join(filter(None, (words[option.kind], option.about.bounds)))


if __name__ == "__main__":
    sys.stdout.write(command_page() if sys.argv[1:] == ["commands"] else page())
