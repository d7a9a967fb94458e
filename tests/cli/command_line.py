"""Running the real command in this process, and small tasks for it to run on."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expertbank_cli.main import run

COMMAND = (sys.executable, "-m", "expertbank_cli.main")
"""The same command as a process of its own; see ``warm`` for what starts sooner."""

TASKS: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {
    "mood": (("bad", "good"), ("film", "plot", "red", "green")),
    "poll": (("no", "yes"), ("vote", "law", "tax", "party")),
    "sport": (("dark", "light"), ("goal", "match", "team", "player")),
}
"""Task to its labels, each the word that gives it away, and the words it is about."""

_FILLERS = ("is", "the", "sky", "blue", "a", "of", "and", "not", "river", "bank", "money", "loan")


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> Any:
        """The last line of stderr, which under ``--json`` is the error."""
        return json.loads(self.err.splitlines()[-1])["error"]


def call(*words: object, stdin: bytes = b"") -> Answer:
    """Run one command as its process would, and give back code and streams."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    try:
        with redirect_stdout(out), redirect_stderr(err):
            run([str(word) for word in words])
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.stdin = before
    assert isinstance(code, int), f"the command ended with {code!r}"
    return Answer(code, out.getvalue(), err.getvalue())


def done(*words: object, stdin: bytes = b"") -> Answer:
    """``call`` for a command that must succeed."""
    answer = call(*words, stdin=stdin)
    assert answer.code == 0, f"{words} exited {answer.code}: {answer.err}"
    return answer


def task_rows(task: str, count: int = 80, seed: int = 0) -> list[tuple[str, str]]:
    """Distinct texts of a task with their labels; the same seed gives the same rows."""
    rng = random.Random(f"{task}{seed}")
    labels, topic = TASKS[task]
    rows: dict[str, str] = {}
    while len(rows) < count:
        words = [*rng.choices(topic, k=rng.randint(1, 3)), *rng.choices(_FILLERS, k=4)]
        label = labels[len(rows) % 2]
        words.insert(rng.randrange(len(words)), label)
        rows.setdefault(" ".join(words), label)
    return list(rows.items())


def write_csv(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_task(path: Path, task: str, count: int = 80, seed: int = 0) -> Path:
    return write_csv(path, list(task_rows(task, count, seed)), ("text", "label"))


def content(folder: Path) -> dict[str, str]:
    """Every file and folder below ``folder`` with the SHA-256 of its bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }
