"""A bank that another process holds: exit code 11, what to do, and nothing changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import call, content, done

from expertbank.registry.sqlite import connection

_HOLDS = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(bank: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of a write, and a short patience here."""
    monkeypatch.setattr(connection, "BUSY_MS", 150)
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(bank / "registry.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize(
    "words", [["list"], ["show", "mood"], ["retrain-router"], ["alias", "stable", "1"]]
)
def test_a_locked_bank_exits_11_and_says_what_to_do(
    words: list[str], held: subprocess.Popen[str], bank: Path
) -> None:
    before = {name: mark for name, mark in content(bank).items() if "lock" not in name}
    answer = call("--home", bank, "--json", *words)
    assert answer.code == 11
    assert answer.error["code"] == 11
    assert "wait" in answer.error["message"]
    after = {name: mark for name, mark in content(bank).items() if "lock" not in name}
    assert after == before


def test_the_lock_ends_with_the_process_that_held_it(
    held: subprocess.Popen[str], bank: Path
) -> None:
    held.kill()
    held.wait()
    done("--home", bank, "alias", "stable", "1")
    assert done("--home", bank, "--json", "verify").document["ok"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_told_in_one_line(bank: Path) -> None:
    command = [sys.executable, "-m", "expertbank_cli.main", "--home", str(bank), "list"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "No space left" in ended.stderr
