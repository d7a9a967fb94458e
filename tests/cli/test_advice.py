"""What messages, help and docstrings tell people to run is a command that there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import expertbank_cli
import pytest
import typer
from expertbank_cli.app import app
from expertbank_cli.words import GLOBALS as EVERYWHERE

import expertbank

ROOT: Any = typer.main.get_command(app)
ADVICE = re.compile(
    r"(?P<sure>(?:\b(?:run|with|at|or|again|first run|Example): |\bor )?)"
    r"(?<![\w./=@-])expertbank (?P<words>(?:--\w+ \S+ )*[a-z][a-z-]*\b[^;,()`\n]*)"
)
"""``sure`` is not empty where what follows can be nothing but a command."""


def texts() -> Iterator[tuple[str, str]]:
    """Every string of the sources, values that are filled in as VALUE, and where it stands."""
    for package in (expertbank, expertbank_cli):
        folder = Path(str(package.__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
            parts_of = {
                part for one in nodes if isinstance(one, ast.JoinedStr) for part in one.values
            }
            for node in (one for one in nodes if one not in parts_of):
                where = f"{path.relative_to(folder.parent)}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.JoinedStr):
                    parts = (
                        part.value if isinstance(part, ast.Constant) else "VALUE"
                        for part in node.values
                    )
                    yield where, "".join(map(str, parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield where, node.value


def fault(words: list[str], *, sure: bool) -> str | None:
    """What is wrong with the words of a command; prose may follow those of one that is not sure."""
    command, rest = ROOT, list(words)
    while rest and rest[0].startswith("--"):  # global options stand in front
        del rest[:2]
    while rest and hasattr(command, "commands"):
        if rest[0] not in command.commands:
            break
        command = command.commands[rest.pop(0)]
    if command is ROOT:
        return f"no command {rest[0]}" if sure else None
    options = {name: one for one in command.params for name in (*one.opts, *one.secondary_opts)}
    takes_words = any(one.param_type_name == "argument" for one in command.params)
    while rest:
        word = rest.pop(0).rstrip(".:?")
        if word.startswith("--") and len(word) > 2:
            name = word.partition("=")[0]
            if name not in options and name not in {*EVERYWHERE, "--help"}:
                return f"no option {name}"
            if name in options and not options[name].is_flag and "=" not in word:
                del rest[:1]
        elif re.fullmatch(r"[A-Z@]+|router@\w+", word) and not takes_words:
            return f"takes no {word}"
    return None


def faults(text: str) -> Iterator[str]:
    for found in ADVICE.finditer(text):
        if told := fault(found["words"].split(), sure=bool(found["sure"])):
            yield f"expertbank {found['words']}: {told}"


def test_every_command_that_is_advised_can_be_run() -> None:
    wrong = [f"{where}: {told}" for where, text in texts() for told in faults(text)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("leave the task out: expertbank remove TASK", "takes no TASK"),
        ("run: expertbank retrain", "no command retrain"),
        ("or expertbank gc --purge", "no option --purge"),
        ("run: expertbank remove --task TASK; then go on", None),
        ("expertbank list shows them all", None),
        ("an expertbank registry", None),
        ("run: expertbank --home DIR alias active router@N", None),
    ],
)
def test_advice_is_told_from_prose(text: str, told: str | None) -> None:
    assert [one.rpartition(": ")[2] for one in faults(text)] == ([told] if told else [])
