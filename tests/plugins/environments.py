"""The real command in a virtual environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import warm


@dataclass(frozen=True)
class Environment:
    """A virtual environment with everything that the tests' own has."""

    python: Path
    packages: Path

    def run(self, *words: object, code: int = 0) -> str:
        """What the real command prints, in a process of its own; all of it where it must fail."""
        kept = {name: value for name, value in os.environ.items() if name != "EXPERTBANK_HOME"}
        ended = subprocess.run(
            [*warm.command(str(self.python)), *map(str, words)],
            capture_output=True,
            text=True,
            env={**kept, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            timeout=300,
            check=False,
        )
        assert ended.returncode == code, f"{words} exited {ended.returncode}: {ended.stderr}"
        assert "Traceback" not in ended.stderr
        return ended.stdout + (ended.stderr if code else "")

    def each(self, *commands: list[str]) -> list[tuple[int, str]]:
        """Exit code and all that is printed of commands that run one after the other in one
        process: most of the time of each is its start."""
        program = (
            "import contextlib, io, json, sys\n"
            "from expertbank_cli.main import run\n"
            "for words in json.loads(sys.argv[1]):\n"
            "    out, code = io.StringIO(), 0\n"
            "    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):\n"
            "        try: run(words)\n"
            "        except SystemExit as ended: code = int(ended.code or 0)\n"
            "    print(json.dumps([code, out.getvalue()]))\n"
        )
        ended = subprocess.run(
            [self.python, "-c", program, json.dumps(commands)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            timeout=300,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        found = [json.loads(line) for line in ended.stdout.splitlines()]
        assert len(found) == len(commands), ended.stdout
        return [(code, text) for code, text in found]

    def json(self, *words: object) -> Any:
        """The answer as JSON."""
        return json.loads(self.run("--json", *words))

    def lines(self, *words: object) -> list[Any]:
        """The answers of several rows as JSON."""
        return [json.loads(line) for line in self.run("--json", *words).splitlines()]
