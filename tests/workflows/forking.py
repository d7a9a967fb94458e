"""Run as a process: parents that load a bundle and a bank, compute and fork.

    forking.py '[FOLDER, BEFORE, THREADS, [INSIDE, ...]]' ...

Each word is a parent, and gives a line of what became of its children. BEFORE is what the parent
does: ``load``, ``predict``, ``train``, ``refit``, or ``busy`` to predict in another thread all the
while. INSIDE is what a child does, one child after the other. Each has 60 seconds. Parents are
forks of one process that only imported.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
import traceback
from pathlib import Path

import torch

from expertbank import Bank, TrainConfig, load_bundle

TEXTS = ["the film is good " * 20] * 16
SECONDS = 60


class Predicting(torch.utils.data.Dataset[int]):
    """A data set whose items are predicted."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: int) -> int:
        return len(list(BUNDLE.predict(TEXTS)))


def predict(_: object = None) -> int:
    return len(list(BUNDLE.predict(TEXTS)))


def train() -> int:
    name = f"more{time.time_ns()}"
    BANK.add(name, data=FOLDER / "films.csv", train=TrainConfig(epochs=1))
    return len(BANK.tasks())


def inside(what: str) -> object:
    if what.startswith("one-"):
        torch.set_num_threads(1)
        what = what.removeprefix("one-")
    if what == "train":
        return train()
    if what == "refit":
        return BANK.retrain_router(kind="ridge").router.version
    if what == "reload":
        return len(list(load_bundle(FOLDER / "bundle").predict(TEXTS)))
    if what == "read":
        return [expert.id for expert in BANK.experts()]
    return predict()


def forked(what: str) -> tuple[str, object]:
    """How a child ended, and what it said."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = ["done", inside(what)]
        except Exception as error:  # noqa: BLE001 (told to the parent)
            said = [type(error).__name__, str(error)]
        os.write(there, json.dumps(said).encode())
        os._exit(0)
    os.close(there)
    until = time.monotonic() + SECONDS
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(child, 9)
            os.waitpid(child, 0)
            return "hung", None
        time.sleep(0.02)
    ended, said = json.loads(os.read(here, 65536))
    return ended, said


def compute(before: str) -> None:
    if before == "predict":
        predict()
    elif before == "train":
        train()
    elif before == "refit":
        BANK.retrain_router(kind="ridge")
    elif before == "busy":
        started = threading.Event()

        def endless() -> None:
            while True:
                predict()
                started.set()

        threading.Thread(target=endless, daemon=True).start()
        started.wait()


def child(before: str, what: str) -> tuple[str, object]:
    if before == "busy":
        ends = [forked(what) for _ in range(12)]
        return ", ".join(sorted({ended for ended, _ in ends})), ends[0][1]
    if what == "pool":
        with multiprocessing.get_context("fork").Pool(1) as pool:
            try:
                return "done", pool.map_async(predict, [0]).get(SECONDS)
            except Exception as error:  # noqa: BLE001 (told to the parent)
                return type(error).__name__, str(error)
    if what == "loader":
        loader = torch.utils.data.DataLoader(
            Predicting(), num_workers=1, multiprocessing_context="fork", timeout=SECONDS
        )
        return "done", [int(batch) for batch in loader]
    return forked(what)


def run(folder: Path, before: str, threads: int, children: list[str]) -> None:
    """One parent and its children; prints how each ended, as a line."""
    global FOLDER, BUNDLE, BANK
    FOLDER = folder
    torch.set_num_threads(threads)
    BUNDLE, BANK = load_bundle(folder / "bundle"), Bank.open(folder / "bank")
    compute(before)
    sys.stdout.write(json.dumps([child(before, what) for what in children]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    for word in sys.argv[1:]:
        parent = os.fork()  # of a process that has only imported
        if parent == 0:
            code = 1
            try:
                given = json.loads(word)
                run(Path(given[0]), *given[1:])
                code = 0
            except Exception:  # noqa: BLE001 (the caller reads it)
                traceback.print_exc()
            finally:
                os._exit(code)
        if os.waitpid(parent, 0)[1]:
            sys.exit(f"{word} failed")
