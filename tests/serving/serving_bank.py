"""A real tiny bank to serve: two tasks of one group, one alone, one of choices; two versions."""

from __future__ import annotations

import csv
import random
from pathlib import Path

from tiny import WORDS, build

from expertbank import Bank, TaskSpec, TrainConfig
from expertbank.data import Columns
from expertbank.records import Row
from expertbank.serving.asking import Ask

SHORT = TrainConfig(epochs=2)
TOPICS = {
    "films": ("film", "plot", "good", "bad"),
    "mood": ("film", "plot", "good", "bad"),
    "laws": ("vote", "law", "tax", "party"),
}
GROUP = "reviews"


def text(topic: str, rng: random.Random) -> str:
    words = [*rng.choices(TOPICS[topic], k=3), *rng.choices(WORDS, k=rng.randrange(1, 8))]
    rng.shuffle(words)
    return " ".join(words)


def texts(count: int, seed: int = 7) -> list[str]:
    rng = random.Random(seed)
    return [text(rng.choice(("films", "laws")), rng) for _ in range(count)]


def rows(count: int, seed: int = 7) -> tuple[Row, ...]:
    return tuple(Row(one) for one in texts(count, seed))


def ask(count: int = 1, model: str = "auto", seed: int = 7, **options: object) -> Ask:
    return Ask(rows(count, seed), model, **options)  # type: ignore[arg-type]


CHOICES = Row("where is the money", None, ("in the bank", "in the sky", "of the river"))


def add(bank: Bank, task: str, folder: Path, seed: int = 0, **options: object) -> None:
    rng = random.Random(f"{task}{seed}")
    path = folder / f"{task}-{seed}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if task == "places":
            writer.writerow(("text", "a", "b", "label"))
            for place in range(60):
                own = [" ".join(rng.sample(WORDS, 3)) for _ in range(2)]
                writer.writerow((" ".join(rng.sample(WORDS, 4)), *own, place % 2))
        else:
            writer.writerow(("text", "label"))
            seen: set[str] = set()
            while len(seen) < 60:
                one = text(task, rng)
                if one not in seen:
                    seen.add(one)
                    writer.writerow((one, ("no", "yes")[len(seen) % 2]))
    given: object = task
    if task == "places":
        given = TaskSpec(task, "multiple_choice", columns=Columns("text", choices=("a", "b")))
    bank.add(given, data=path, train=SHORT, **options)  # type: ignore[arg-type]


def make(folder: Path) -> Path:
    """The backbone, a bank with routers 1 to 3, the last active, and a bundle of it."""
    build(folder / "bert")
    with Bank.open(folder / "bank", backbone=str(folder / "bert")) as bank:
        add(bank, "films", folder, group=GROUP)
        add(bank, "laws", folder)
        bank.retrain_router()
        add(bank, "mood", folder, group=GROUP)
        add(bank, "places", folder)
        bank.retrain_router()
        add(bank, "laws", folder, seed=1, new_version=True)
        bank.retrain_router()
        bank.export(folder / "bundle")
    return folder
