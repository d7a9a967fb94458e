"""What a bank stores as tasks are added and the router is retrained after each.

Run it with: python examples/benchmarks/growth.py [--steps 500] [--every 50] [--keep 5]

A tiny random BERT and tasks of 20 rows, through the product's own interface in one process: `add`,
then `retrain_router`, over and over, once as it is and once with `gc --keep-routers` every 25
steps. At some steps it tells files and bytes of every kind of artifact, rows of routed choices,
bytes of the database and the seconds of that step's retraining; at the end it fits lines through
them. Every row has its task's own words among others; every fifth task has nearly those of the
task before it, so that choices do change.

What to make of it: choices are stored where they changed. Where every new task moves a row of
every other one, all of them are stored at every step, and only `--keep-routers` keeps that in
bounds. A gate has a column for every member, so all gates together grow with the square of the
steps, as do the lists of members and accuracies in the database; the gates that `--keep-routers`
keeps grow with the steps.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from machine import describe

from expertbank import Bank, TrainConfig
from expertbank.workflows.home import DATABASE

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from tiny import WORDS, build

KINDS = {
    "expert": "experts",
    "oracle": "answers",
    "features": "features",
    "statistics": "statistics",
    "router": "gates",
}
CHOICES = "routed"
ROWS, OWN, OTHER, TWIN, SWEEP = 20, 4, 5, 5, 25
"""Rows of a task, its own words and others in each, how rarely a task is like the one before it,
and steps from one sweep to the next."""


@dataclass(frozen=True)
class State:
    """What is there after so many steps; files and bytes by kind of artifact."""

    steps: int
    files: dict[str, int]
    bytes: dict[str, int]
    rows: int
    database: int
    seconds: float
    accuracy: float


def words_of(number: int, seed: int) -> list[str]:
    """What every row of a task begins with; a twin has all but one word of the task before it."""
    twin = number % TWIN == TWIN - 1
    rng = random.Random(f"{seed} {number - twin}")
    return [*rng.choices(WORDS, k=OWN - 1), WORDS[(rng.randrange(len(WORDS)) + twin) % len(WORDS)]]


def write(path: Path, number: int, seed: int) -> Path:
    """A task's rows: its own words, one that tells the label, and others."""
    rng = random.Random(f"rows {seed} {number}")
    own, rows = words_of(number, seed), dict[str, str]()
    while len(rows) < ROWS:
        label = ("no", "yes")[len(rows) % 2]
        rows.setdefault(" ".join((*own, label, *rng.choices(WORDS, k=OTHER))), label)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows.items()])
    return path


def state(bank: Bank, home: Path, steps: int, seconds: float, accuracy: float) -> State:
    """Count what the bank holds."""
    files, sizes = dict.fromkeys([*KINDS, CHOICES], 0), dict.fromkeys([*KINDS, CHOICES], 0)
    for artifact in bank.registry.artifacts():
        if artifact.purged_at is None:
            files[artifact.kind] += 1
            sizes[artifact.kind] += artifact.bytes
    rows = len(bank.registry.evaluations(router_version="routed"))
    database = (home / DATABASE).stat().st_size
    return State(steps, files, sizes, rows, database, seconds, accuracy)


def grow(folder: Path, backbone: Path, steps: int, every: int, keep: int | None, seed: int) -> None:
    """Add and retrain so many times, and print what is there on the way and at the end."""
    home, found = folder / "bank", []
    print(
        "| steps | experts and theirs: files, MB | gates: files, MB | choices: files, KB "
        "| rows of choices | database, MB | retrain, s | routed home |\n" + "|---" * 8 + "|"
    )
    started = time.monotonic()
    with Bank.open(home, backbone=str(backbone)) as bank:
        for number in range(steps):
            data = write(folder / "rows.csv", number, seed)
            bank.add(f"task{number:04}", data=data, train=TrainConfig(epochs=1, seed=seed))
            result = bank.retrain_router()
            step = number + 1
            if keep is not None and step % SWEEP == 0:
                bank.gc(keep_routers=keep)
            if step % every == 0 or step == steps:
                found.append(state(bank, home, step, result.seconds, result.metrics["accuracy"]))
                print(line(found[-1]), flush=True)
        sound = bank.verify()
    print(
        f"\n{time.monotonic() - started:.0f} s in all; afterwards `verify` finds "
        f"{len(sound.problems)} problems and {len(sound.unreferenced)} files without a row\n"
    )
    fits(found)


def line(at: State) -> str:
    """A row of the table."""
    own = [kind for kind in KINDS if kind != "router"]
    return (
        f"| {at.steps} | {sum(at.files[kind] for kind in own):,}, "
        f"{sum(at.bytes[kind] for kind in own) / 1e6:.2f} "
        f"| {at.files['router']}, {at.bytes['router'] / 1e6:.2f} "
        f"| {at.files[CHOICES]:,}, {at.bytes[CHOICES] / 1e3:.1f} | {at.rows:,} "
        f"| {at.database / 1e6:.2f} | {at.seconds:.2f} | {at.accuracy:.3f} |"
    )


def fits(found: Sequence[State]) -> None:
    """A line through each quantity: how much a step adds, and how straight it is."""
    measured = {
        "files of choices": [at.files[CHOICES] for at in found],
        "bytes of choices": [at.bytes[CHOICES] for at in found],
        "rows of choices": [at.rows for at in found],
        "all files": [sum(at.files.values()) for at in found],
        "all bytes of files": [sum(at.bytes.values()) for at in found],
        "bytes of gates": [at.bytes["router"] for at in found],
        "bytes of the database": [at.database for at in found],
    }
    steps = np.array([at.steps for at in found], dtype=float)
    print("| quantity | a step | R² of a line | share of its bend |\n|---|---|---|---|")
    for name, values in measured.items():
        slope, straight, bend = fit(steps, np.array(values, dtype=float))
        print(f"| {name} | {slope:,.1f} | {straight:.4f} | {bend:.3f} |")
    print()


def fit(steps: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """Slope of the line through the points, its R², and how far they bend from it.

    The bend is that of the parabola through them at the last step, as a share of the last value:
    about 0 for a line, 1 for the square of the steps.
    """
    if len(steps) < 3:
        return float("nan"), float("nan"), float("nan")
    slope, start = np.polyfit(steps, values, 1)
    spread = ((values - values.mean()) ** 2).sum()
    left = ((values - (slope * steps + start)) ** 2).sum()
    bend = np.polyfit(steps, values, 2)[0] * steps[-1] ** 2 / values[-1]
    return slope, 1 - left / spread if spread else 1.0, bend


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--every", type=int, default=50, help="steps from one count to the next")
    parser.add_argument("--keep", type=int, default=5, help="routers that a sweep keeps")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    describe(options.seed)
    for keep in (None, options.keep):
        what = "as it is" if keep is None else f"with gc --keep-routers {keep} every {SWEEP} steps"
        print(f"\n## {options.steps} times add and retrain, {what}\n")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            backbone = build(folder / "backbone", seed=options.seed)
            grow(folder, backbone, options.steps, options.every, keep, options.seed)


if __name__ == "__main__":
    main()
