"""Small tasks of random words, and a bank over them through the Python interface."""

from __future__ import annotations

import csv
import hashlib
import random
from pathlib import Path

from expertbank import Bank, TrainConfig

TASKS: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {
    "films": (("bad", "good"), ("film", "plot", "red", "green")),
    "laws": (("no", "yes"), ("vote", "law", "tax", "party")),
    "games": (("dark", "light"), ("goal", "match", "team", "player")),
}
"""Task to its labels, each the word that gives it away, and the words it is about."""

_FILLERS = ("is", "the", "sky", "blue", "a", "of", "and", "not", "river", "bank", "money", "loan")
SHORT = TrainConfig(epochs=2)


def task_rows(task: str, count: int = 80, seed: int = 0) -> list[tuple[str, str]]:
    """Distinct texts with their labels. One in three has no word of its task's topic, so no
    router gets all of them right."""
    rng = random.Random(f"{task}{seed}")
    labels, topic = TASKS[task]
    rows: dict[str, str] = {}
    while len(rows) < count:
        own = rng.choices(topic, k=rng.choice((0, 1, 2)))
        words = [*own, *rng.choices(_FILLERS, k=4)]
        label = labels[len(rows) % 2]
        # One row in four tells nothing of its label either.
        if len(rows) % 4:
            words.insert(rng.randrange(len(words)), label)
        rows.setdefault(" ".join(words), label)
    return list(rows.items())


def write_task(path: Path, task: str, count: int = 80, seed: int = 0) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *task_rows(task, count, seed)])
    return path


def texts(count: int = 30) -> list[str]:
    """Texts of all tasks, not those that were trained on."""
    found = [text for task in TASKS for text, _ in task_rows(task, count, seed=9)]
    random.Random(0).shuffle(found)
    return found


def add(bank: Bank, task: str, folder: Path, **options: object) -> str:
    """Add ``task`` from a file in ``folder`` and return the expert's digest."""
    data = folder / f"{task}.csv"
    if not data.exists():
        write_task(data, task)
    return bank.add(task, data=data, **{"train": SHORT, **options}).expert.digest  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` with the SHA-256 of its bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def tamper(path: Path, *, like: bytes | None = None) -> None:
    """Change one byte in the middle of a file, or put other bytes there."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data) if like is None else like)
