"""A tiny bank with a task of every kind, and its server behind a real uvicorn."""

from __future__ import annotations

import csv
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from expertbank import Bank, TrainConfig
from expertbank.data import Columns, TaskSpec

HOSTILE = "<script>alert('label')</script>"
"""A label as nobody should have one."""
_WORDS = ("is", "the", "sky", "blue", "a", "of", "and", "not", "river", "bank", "money", "loan")


def make_bank(home: Path, backbone: Path) -> None:
    """Tasks ``mood`` (with a hostile label), ``topic`` and ``urgency`` (a group), ``pick``
    (choices) and ``marks`` (several labels), and two routers."""
    rng = random.Random(0)
    train = TrainConfig(epochs=1)
    folder = home.parent
    with Bank.open(home, backbone=str(backbone)) as bank:
        _write(folder / "mood.csv", _labelled(rng, "film", {"bad": "bad", "good": HOSTILE}))
        bank.add("mood", data=folder / "mood.csv", train=train)
        bank.retrain_router()
        rows = _labelled(rng, "goal", {"red": "red", "green": "green"})
        _write(folder / "topic.csv", rows)
        _write(folder / "urgency.csv", [(text, str(len(text) % 2)) for text, _ in rows])
        for task in ("topic", "urgency"):
            bank.add(task, data=folder / f"{task}.csv", train=train, group="ticket")
        _write(folder / "marks.csv", _marked(rng), ("text", "labels"))
        marks = TaskSpec(
            "marks",
            "multi_label",
            columns=Columns(text="text", label="labels", separator=";"),
        )
        bank.add(marks, data=folder / "marks.csv", train=train)
        _write(folder / "pick.csv", _picked(rng), ("text", "one", "two", "label"))
        pick = TaskSpec(
            "pick",
            "multiple_choice",
            columns=Columns(text="text", choices=("one", "two"), label="label"),
        )
        bank.add(pick, data=folder / "pick.csv", train=train)
        bank.retrain_router()


@contextmanager
def running(app: FastAPI, **options: object) -> Iterator[str]:
    """Serve ``app`` on a free port of this machine's own; gives its address."""
    config = uvicorn.Config(app, port=0, log_level="warning", **options)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "uvicorn ended"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _write(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ()) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header or ("text", "label"), *rows])


def _labelled(rng: random.Random, about: str, labels: dict[str, str]) -> list[tuple[str, ...]]:
    found: dict[str, str] = {}
    while len(found) < 60:
        word = list(labels)[len(found) % len(labels)]
        words = [about, word, *rng.choices(_WORDS, k=4)]
        rng.shuffle(words)
        found.setdefault(" ".join(words), labels[word])
    return list(found.items())


def _marked(rng: random.Random) -> list[tuple[str, ...]]:
    found: dict[str, str] = {}
    while len(found) < 60:
        held = [word for word in ("cell", "gene", "virus") if rng.random() < 0.6] or ["cell"]
        found.setdefault(" ".join([*held, *rng.choices(_WORDS, k=4)]), ";".join(held))
    return list(found.items())


def _picked(rng: random.Random) -> list[tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    while len(found) < 60:
        text = " ".join(rng.choices(_WORDS, k=5))
        choices = ["law party", "tax match"]
        if rng.random() < 0.5:
            choices.reverse()
        found.setdefault(text, (text, *choices, str(choices.index("law party"))))
    return list(found.values())
