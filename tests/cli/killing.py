"""Runs ``expertbank add`` in forked processes and kills them; prints what it found as JSON.

Started as a program of its own: everything is imported once, before any thread runs, and each
command is then a real process that begins where a fresh one would be after its imports.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from expertbank_cli.main import run

KILLS = 14
MAKING, COMMITTING = 4, 5
"""So many of them come just when a new bank's database appears, and just when files do."""


def start(*commands: Sequence[str]) -> int:
    """Fork a process that runs commands, one after the other, and return its id.

    It exits with their code; with 99 if their codes differ, with 70 if one broke.
    """
    child = os.fork()
    if child:
        return child
    codes = set()
    try:
        for words in commands:
            quiet = io.StringIO()
            try:
                with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                    run(words)
            except SystemExit as ended:
                codes.add(int(ended.code or 0))
    except BaseException:  # noqa: BLE001 (nothing of the child may return to the parent's code)
        traceback.print_exc()
        os._exit(70)
    os._exit(codes.pop() if len(codes) == 1 else 99)


def finish(child: int) -> int:
    """The exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def files(home: Path) -> int:
    return sum(1 for path in home.glob("objects/*/*.safetensors"))


def wait_for(child: int, happened: Callable[[], bool]) -> None:
    """Return when something happened, or the process ended first."""
    while not happened():
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.0003)


def main(folder: Path, backbone: str, data: str) -> dict[str, Any]:
    import warm

    for late in warm.LATE:  # else every fork would import them when it comes to them
        import_module(late)
    rng = random.Random(20)
    home = folder / "bank"

    def add(place: Path, number: int) -> list[str]:
        words = ["--home", str(place), "add", "--task", f"task{number}", "--data", data]
        # Another seed each time: equal files would be stored only once.
        return [*words, "--epochs", "2", "--backbone", backbone, "--seed", str(number)]

    assert finish(start(add(home, 98))) == 0
    started = time.monotonic()
    assert finish(start(add(home, 99))) == 0
    lasts = time.monotonic() - started
    attempts = []
    for number in range(KILLS):
        making, committing = number < MAKING, number >= KILLS - COMMITTING
        place = folder / f"bank{number}" if making else home
        before, database = files(place), place / "registry.db"
        child = start(add(place, number))
        if making:
            wait_for(child, database.exists)
            time.sleep(rng.uniform(0, 0.005) * number)
        elif committing:
            wanted = 1 + number % 3
            wait_for(child, lambda: files(place) >= before + wanted)  # noqa: B023 (called here)
            time.sleep(rng.uniform(0, 0.002) * (number % 2))
        else:
            share = (number - MAKING + rng.random()) / (KILLS - MAKING - COMMITTING)
            time.sleep(lasts * share)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        attempt = {"phase": "making" if making else "commit" if committing else "any"}
        attempt |= {"ended": finish(child), "files": files(place) - before}
        commands = ("verify", "list", "history")
        attempt["commands"] = finish(start(*(["--home", str(place), name] for name in commands)))
        if making or committing:
            attempt["again"] = finish(start(add(place, number)))
        attempts.append(attempt)
    bundle = str(folder / "bundle")
    whole = (
        add(home, 100),
        ["--home", str(home), "retrain-router"],
        ["--home", str(home), "forgetting-report", "--verify"],
        ["--home", str(home), "export", bundle],
        ["--home", str(home), "verify"],
        ["predict", "--bundle", bundle, "a good film"],
    )
    return {"attempts": attempts, "whole": finish(start(*whole)), "lasts": lasts}


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1]))
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])))  # noqa: T201
