"""What `add` costs beside the training in it: reading, encoding, features, evaluation, storing.

Run it with: python examples/benchmarks/add_cost.py ../shared/data [--rows 2000] [--rounds 3]

A whole `add` by the product's defaults in a bank that is open, task after task, in turn within each
round. Its training is what `train_expert` takes: trunk states, the head's start, the epochs and
their measuring. By stage stands where the rest goes, as the progress of `add` tells it. The first
task of all is added once before, so that nothing is imported while the clock runs.
Aimed at: `add` at most 1.3 times its training.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
from machine import describe

from expertbank import Bank, TrainConfig
from expertbank.config import DEFAULT_BACKBONE
from expertbank.records import ProgressEvent


def spent(bank: Bank, task: str, data: Path, train: TrainConfig) -> tuple[float, float, dict]:
    """Seconds of one `add`, of its training, and by stage."""
    stages: dict[str, float] = defaultdict(float)
    began = last = time.perf_counter()

    def told(event: ProgressEvent) -> None:
        nonlocal last
        now = time.perf_counter()
        stages[event.stage.split(f" {task}")[0].split(" /")[0]] += now - last
        last = now

    added = bank.add(task, data=data / task, train=train, new_version=True, progress=told)
    ended = time.perf_counter()
    stages["storing"] += ended - last
    return ended - began, added.train["seconds"], stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with one folder per task")
    parser.add_argument("--tasks", nargs="+", default=("sst2", "mrpc"))
    parser.add_argument("--rows", type=int, default=2000, help="most training rows of each task")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    describe(options.seed)
    train = TrainConfig(limit=options.rows, seed=options.seed)
    with tempfile.TemporaryDirectory() as folder, Bank.open(folder) as bank:
        given = {"max_length": options.max_length, "dtype": options.dtype}
        bank.init(backbone=options.backbone, **given)
        warm = TrainConfig(limit=100, epochs=1, seed=options.seed)
        bank.add(options.tasks[0], data=options.data / options.tasks[0], train=warm)
        print("| task | add, s | training, s | times | where the time of the last round went, s |")
        print("|---|---|---|---|---|", flush=True)
        found = {task: [] for task in options.tasks}
        for _ in range(options.rounds):
            for task in options.tasks:
                found[task].append(spent(bank, task, options.data, train))
        for task, rounds in found.items():
            whole, training = (statistics.median(one[place] for one in rounds) for place in (0, 1))
            times = statistics.median(one[0] / one[1] for one in rounds)
            stages = ", ".join(f"{name} {s:.1f}" for name, s in rounds[-1][2].items())
            print(f"| {task} | {whole:.1f} | {training:.1f} | {times:.2f} | {stages} |")


if __name__ == "__main__":
    main()
