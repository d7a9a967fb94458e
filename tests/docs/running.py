"""Running what pages show in this process: torch is imported once for all of it."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from expertbank_cli.main import run


@dataclass(frozen=True)
class Ran:
    """What a command gave back."""

    code: int
    out: str
    err: str


def command(words: Sequence[str]) -> Ran:
    """Run one ``expertbank`` command with these words."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run(words)
        except SystemExit as ended:
            return Ran(int(ended.code or 0), out.getvalue(), err.getvalue())


def script(path: Path, *arguments: str) -> str:
    """Run a Python file as a program, and give back what it prints."""
    out = io.StringIO()
    with mock.patch.object(sys, "argv", [str(path), *arguments]), contextlib.redirect_stdout(out):
        runpy.run_path(str(path), run_name="__main__")
    return out.getvalue()
