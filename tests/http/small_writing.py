"""A small bank of one expert that writes and one that has a head."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

from tiny import build

from expertbank import Bank, TrainConfig
from expertbank.data import Columns, TaskSpec
from expertbank.writing import WritingConfig

WORDS = ("is", "the", "sky", "a", "of", "and", "not", "river")
ANSWERS = {"red": "bad film", "green": "good plot", "blue": "law"}
PROMPT = "the sky is red"
TEMPLATE = "[CLS] {% for one in messages %}{{ one['content'] }} {% endfor %}[SEP]"
"""It brings the special tokens that the tokenizer puts around a text too, as those of Llama do."""


def write(path: Path, answers: dict[str, str]) -> Path:
    rng = random.Random(0)
    rows: dict[str, str] = {}
    while len(rows) < 50:
        word = rng.choice(list(answers))
        rows.setdefault(" ".join([word, *rng.choices(WORDS, k=4)]), answers[word])
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows.items()])
    return path


def make_writing_bank(folder: Path) -> Path:
    """Its home; ``paint`` writes, ``mood`` has a head, and the backbone has a chat template."""
    backbone = build(folder / "llama", "llama", language="tied")
    config = backbone / "tokenizer_config.json"
    told = {**json.loads(config.read_text()), "chat_template": TEMPLATE}
    config.write_text(json.dumps(told))
    train = TrainConfig(epochs=1, lr=2e-2)
    with Bank.open(folder / "bank", backbone=str(backbone)) as bank:
        bank.init(max_length=16)
        paint = TaskSpec(
            "paint",
            "generation",
            columns=Columns(text="text", label="label"),
            writing=WritingConfig(max_tokens=6, stop=("river",)),
        )
        bank.add(paint, data=write(folder / "paint.csv", ANSWERS), train=train)
        mood = write(folder / "mood.csv", {"film plot": "yes", "goal team": "no"})
        bank.add("mood", data=mood, train=train)
        bank.retrain_router()
    return folder / "bank"
