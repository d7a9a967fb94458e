"""What a bank holds as tasks are added one after the other, with the router refitted each time.

Run it with: python examples/benchmarks/growth.py [--tasks 500] [--keep-routers 5]

Every task is of random words, told by two of its own, on a tiny random BERT (2 layers of 16), and
goes through `Bank.add` and `Bank.retrain_router`: real training, real files. The bank is made
twice, the second time with `gc --keep-routers` after every tenth of the tasks. Evidence of an
unchanged choice is not stored again: were it, N tasks would leave N (N + 1) / 2 files of choices.
A gate has a column a member, so that all gates together grow with the square of the tasks, as do
members and accuracies in the database; those that `--keep-routers` keeps grow with the tasks.
The last line of a table is the straight line through its rows: how much one more task takes, and
the share of the variance that the line explains (R²).
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from machine import describe
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from expertbank import AdapterConfig, Bank, TrainConfig
from expertbank.workflows.workspace import OBJECTS, database_of

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
ROWS = 40
TRAIN = TrainConfig(epochs=1, limit=ROWS, eval_limit=20)


def tiny_backbone(folder: Path, tasks: int) -> Path:
    """A random BERT with two words of its own for each task and twenty for all."""
    words = [*SPECIALS, *(f"w{number}" for number in range(2 * tasks + 20))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    )
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
        )
    ).save_pretrained(folder)
    return folder


def write_task(path: Path, number: int, tasks: int) -> None:
    """A file of rows: six words that any task has, and one that gives task and label away."""
    rng = random.Random(number)
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(("text", "label"))
        for row in range(ROWS):
            own = f"w{2 * number + row % 2}"
            words = [own, own, *(f"w{2 * tasks + rng.randrange(20)}" for _ in range(6))]
            rng.shuffle(words)
            out.writerow((" ".join(words), ("no", "yes")[row % 2]))


def held(home: Path) -> tuple[int, int, int, int, int, int]:
    """Files, their bytes, those of choices and their bytes, bytes of gates and of the database."""
    sizes = {path.stem: path.stat().st_size for path in (home / OBJECTS).rglob("*.safetensors")}
    with Bank.open(home, read_only=True) as bank:
        rows = bank.registry.evaluations(router_version="routed")
        gates = {router.digest for router in bank.routers()} & set(sizes)
    choices = {row.artifact_digest for row in rows} & set(sizes)
    return (
        len(sizes),
        sum(sizes.values()),
        len(choices),
        sum(sizes[digest] for digest in choices),
        sum(sizes[digest] for digest in gates),
        database_of(home).path.stat().st_size,
    )


def grow(home: Path, backbone: Path, tasks: int, keep: int | None) -> None:
    """N times add and retrain, with a row at every tenth of the way."""
    step, found, taken = max(1, tasks // 10), [], []
    kept = "every router" if keep is None else f"the {keep} newest routers"
    print(f"evidence of {kept} kept")
    print(
        "| tasks | files | MB | of choices, files | MB | of gates, MB | database, MB | add, s "
        "| retrain, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    data = home.parent / "task.csv"
    for number in range(tasks):
        write_task(data, number, tasks)
        started = time.perf_counter()
        # Opened anew each time: as commands would, and nothing is remembered between them.
        with Bank.open(home) as bank:
            bank.add(
                f"task{number:04}",
                data=data,
                adapter=AdapterConfig(tt_rank=2),
                train=TRAIN,
                backbone=str(backbone),
                max_length=16,
                route_layer=1,
            )
        between = time.perf_counter()
        with Bank.open(home) as bank:
            bank.retrain_router()
        taken.append((between - started, time.perf_counter() - between))
        if (number + 1) % step:
            continue
        if keep is not None:
            with Bank.open(home) as bank:
                bank.gc(keep_routers=keep, grace_hours=0)
        files, size, choices, of_choices, gates, database = held(home)
        add, retrain = np.median(np.array(taken[-step:]), axis=0)
        found.append((number + 1, files, size, choices, of_choices, gates, database))
        print(
            f"| {number + 1} | {files:,} | {size / 1e6:.2f} | {choices:,} | {of_choices / 1e6:.2f} "
            f"| {gates / 1e6:.2f} | {database / 1e6:.2f} | {add:.2f} | {retrain:.2f} |",
            flush=True,
        )
    print(f"a task more: {line(found)}\n", flush=True)


def line(found: Sequence[tuple[int, ...]]) -> str:
    """The slope of each column against the number of tasks, and how straight it is."""
    x, *columns = np.array(found, dtype=float).T
    names = (
        "files",
        "bytes",
        "files of choices",
        "bytes of choices",
        "bytes of gates",
        "bytes of database",
    )
    told = []
    for name, y in zip(names, columns, strict=True):
        slope = np.polyfit(x, y, 1)[0]
        told.append(f"{slope:,.1f} {name} (R² {np.corrcoef(x, y)[0, 1] ** 2:.4f})")
    return ", ".join(told)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--keep-routers", type=int, default=5)
    options = parser.parse_args(argv)
    describe(0)
    with tempfile.TemporaryDirectory() as scratch:
        backbone = tiny_backbone(Path(scratch) / "backbone", options.tasks)
        for name, keep in (("all", None), ("newest", options.keep_routers)):
            home = Path(scratch) / name / "bank"
            home.parent.mkdir()
            grow(home, backbone, options.tasks, keep)


if __name__ == "__main__":
    main()
