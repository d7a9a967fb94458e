"""Small tasks of other kinds, and two tasks on one text, for the command to run on."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_TOPICS = ("cell", "gene", "virus", "light")
_FILLERS = ("is", "the", "sky", "a", "of", "and", "not", "river", "bank", "money", "loan")


def choice_rows(count: int = 80, seed: int = 0, choices: int = 3) -> list[dict[str, Any]]:
    """One of the choices has ``yes`` in it, and that is the right one."""
    rng = random.Random(f"choice{seed}")
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < count:
        right = len(rows) % choices
        offered = [" ".join(rng.sample(_FILLERS, 2)) for _ in range(choices)]
        offered[right] = f"yes {offered[right]}"
        text = " ".join([*rng.choices(_TOPICS, k=2), *rng.choices(_FILLERS, k=3)])
        rows.setdefault(text, {"text": text, "choices": offered, "label": right})
    return list(rows.values())


def value_rows(count: int = 80, seed: int = 0) -> list[tuple[str, str]]:
    """The value is 10, and 2.5 more for every ``green`` and less for every ``red``."""
    rng = random.Random(f"value{seed}")
    rows: dict[str, str] = {}
    while len(rows) < count:
        up, down = rng.randrange(4), rng.randrange(4)
        words = ["tax"] + ["green"] * up + ["red"] * down + rng.choices(_FILLERS, k=3)
        rng.shuffle(words)
        rows.setdefault(" ".join(words), f"{10 + 2.5 * (up - down)}")
    return list(rows.items())


def ticket_rows(count: int = 120, seed: int = 0) -> list[tuple[str, str, str]]:
    """One text with two answers: which of two words stands in it, twice over."""
    rng = random.Random(f"ticket{seed}")
    rows: dict[str, tuple[str, str]] = {}
    while len(rows) < count:
        mood, pace = ("bad", "good")[len(rows) % 2], ("dark", "light")[len(rows) // 2 % 2]
        words = ["film", "plot", *rng.choices(_FILLERS, k=3), mood, pace]
        rng.shuffle(words)
        rows.setdefault(" ".join(words), (mood, pace))
    return [(text, *labels) for text, labels in rows.items()]


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_rows(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path
