"""A command imports what it needs, and its process ends without looking for garbage once more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from expertbank_cli.app import app
from typer.main import get_command


def ended(program: str, *words: object) -> str:
    """What a program prints to stderr before it runs a command, and at its end."""
    code = f"{program}\nfrom expertbank_cli.main import run; run()"
    found = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0, found.stderr
    return found.stderr


def test_a_command_imports_no_other_command(made_bank: Path) -> None:
    program = (
        "import atexit, json, sys\n"
        "names = lambda: [one for one in sys.modules if one.startswith('expertbank_cli.')]\n"
        "atexit.register(lambda: sys.stderr.write(json.dumps(names())))"
    )
    loaded = set(json.loads(ended(program, "--home", made_bank / "bank", "list")))
    assert "expertbank_cli.browse" in loaded
    others = {"experts", "predicting", "serving", "mapping", "importing", "routing", "upkeep"}
    assert not loaded & {f"expertbank_cli.{name}" for name in others}


def test_a_process_of_our_own_gives_back_what_it_imported_unlooked_at() -> None:
    program = "import atexit, gc, sys; atexit.register(lambda: sys.stderr.write(str(left())))\n"
    program += "left = lambda: gc.get_freeze_count() > 10_000"
    assert ended(program, "--version") == "True"


def test_a_caller_in_the_same_process_keeps_its_garbage_collector() -> None:
    program = (
        "import gc, sys\n"
        "from expertbank_cli import main\n"
        "try: main.run(['--version'])\n"
        "except SystemExit: sys.stderr.write(str(gc.get_freeze_count()))\n"
    )
    assert ended(program, "--version") == "0"


@pytest.mark.parametrize("words", [(), ("db",), ("tasks",)])
def test_each_command_that_is_listed_is_there(words: tuple[str, ...]) -> None:
    found: Any = get_command(app)
    for word in words:
        found = found.commands[word]
    commands = found.commands
    assert len(commands) >= 2
    for name in commands:
        assert commands[name].name == name
        assert commands[name].help
    assert commands.get("no-such-command") is None
