"""What one task more costs the router, at the 13th task and at the 1,001st.

Run it with: python examples/benchmarks/retrain_cost.py [--tasks 13 1001] [--home DIR]

Banks in folders, with a real database and real files as `add` leaves them, over made-up rows about
a centre of each task's own: 2,304 features, every fourth task of pairs of texts. The last task is
registered, and `Bank.retrain_router` refits: what is timed is the command's own work, without the
start of a process. Banks of up to `--measured` tasks keep features, and their evaluation rows are
routed too; larger ones keep statistics only, for evaluating a thousand tasks' rows is no part of
fitting. Of `--rounds` refits, each from the sums that the bank was left with before the task came,
the median is printed, split as the command splits it. Then the task is removed: the router is the
one of before, to the byte. `--tasks 1001` writes 10.6 GB, and takes minutes to make.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from machine import describe

from expertbank import Bank, RouterConfig
from expertbank.clock import now
from expertbank.config import FeatureSpec, Keep, sha256_text
from expertbank.evaluation.predictions import Predictions
from expertbank.records import (
    ArtifactRecord,
    BackboneRecord,
    EvaluationRecord,
    ExpertRecord,
    FeatureSetRecord,
    RunRecord,
    TaskRecord,
)
from expertbank.routing.feature_file import FeatureFile
from expertbank.routing.grid import WIDEST
from expertbank.routing.statistics import Statistics
from expertbank.routing.statistics_file import write_statistics
from expertbank.workflows.growing.statistics import Summed, summed_of
from expertbank.workflows.growing.sums_cache import SUMS_CACHE
from expertbank.workflows.home import FolderHome
from expertbank.workflows.workspace import Workspace

BACKBONE = sha256_text("backbone")
PARTS = ("read", "add", "solve", "evaluate")


def spec_of(keep: Keep) -> FeatureSpec:
    """MiniLM's default: three states, two poolings, 384 numbers each."""
    return FeatureSpec(BACKBONE, 2, (0, 1, 2), ("mean", "last"), keep=keep)


def rows_of(task: str, count: int, part: int) -> torch.Tensor:
    """``[count, WIDEST]`` float16 of root mean square 1, about the task's own centre."""
    seed = int(sha256_text(task)[:12], 16)
    centre = torch.randn(WIDEST, generator=torch.Generator().manual_seed(seed))
    noise = torch.randn(
        count, WIDEST, generator=torch.Generator().manual_seed(seed + part), dtype=torch.float32
    )
    return ((0.2 * centre + noise) / 1.02).half()


def keep(workspace: Workspace, number: int, rows: int, kept: Keep) -> None:
    """One more task in the bank, as ``add`` commits it; its expert is a few bytes."""
    task, spec = f"task{number:05}", spec_of(kept)
    shapes = ("pair" if number % 4 == 0 else "single",) * rows
    evaluated = rows if kept == "features" else 1
    summed, files = _kept(task, shapes, rows, kept)
    digests = tuple(sha256_text(f"{task} {row}") for row in range(evaluated))
    logits = np.zeros((evaluated, 2), dtype=np.float32)
    targets = np.zeros(evaluated, dtype=np.int32)
    files |= {
        "expert": f"expert of {task}".encode(),
        "statistics": summed.data,
        "oracle": Predictions(logits, targets, digests).to_bytes(),
    }
    stored = {kind: workspace.store.put(data) for kind, data in files.items()}
    what = "features" if kept == "features" else "statistics"
    n_eval, labels, size = (rows if kept == "features" else 0), ("no", "yes"), len(files[what])
    workspace.registry.commit_expert(
        TaskRecord(task, "classification", labels, {"columns": {"text": "text"}}, now()),
        RunRecord("add", {}, 0, {}, {}, BACKBONE, 1.0),
        ExpertRecord(task, 1, stored["expert"], 8000, 770, 35_000, labels, "classification"),
        [ArtifactRecord(stored[kind], kind, len(data)) for kind, data in files.items()],
        FeatureSetRecord(f"{task}@1", stored[what], spec.digest, WIDEST, rows, n_eval, size),
        [EvaluationRecord(f"{task}@1", evaluated, evaluated, stored["oracle"], {}, {})],
        summed.record(f"{task}@1"),
    )


def _kept(
    task: str, shapes: tuple[str, ...], rows: int, kept: Keep
) -> tuple[Summed, dict[str, bytes]]:
    """Statistics of made-up rows, and the feature file where one is kept."""
    train, spec = rows_of(task, rows, 1), spec_of(kept)
    if kept == "stats":
        own = Statistics.of(train, shapes, spec.digest).without_rows()
        return Summed(own, write_statistics(own)), {}
    data = FeatureFile(train, rows_of(task, rows, 2), shapes, shapes, spec.digest).to_bytes()
    return summed_of(FeatureFile.from_bytes(data, task), data), {"features": data}


def bank_of(home: Path, tasks: int, options: argparse.Namespace) -> list[str]:
    """One line of the table: the cost of the last of so many tasks."""
    kept: Keep = "features" if tasks <= options.measured else "stats"
    home.mkdir(parents=True)
    with FolderHome(home).location.create() as registry:
        registry.set_backbone(BackboneRecord(BACKBONE, "nowhere", {}, spec_of(kept), now()))
    config, cache = RouterConfig(options.kind), home / SUMS_CACHE
    with Bank.open(home) as bank:
        workspace = Workspace.open(home)
        for number in range(tasks - 1):
            keep(workspace, number, options.rows, kept)
        started = time.monotonic()
        before = bank.retrain_router(config=config)
        whole, sums = time.monotonic() - started, cache.read_bytes()
        keep(workspace, tasks - 1, options.rows, kept)
        found, texts = [], 0
        for _ in range(options.rounds):
            cache.write_bytes(sums)
            after = bank.retrain_router(config=config)
            found.append({**after.cost, "seconds": after.seconds})
            texts += after.old_texts_read
        workspace.registry.remove_task(
            f"task{tasks - 1:05}",
            RunRecord("remove", {}, 0, {}, {"task": f"task{tasks - 1:05}"}, BACKBONE, 0.0),
        )
        again = bank.retrain_router(config=config)
        same = again.router.digest == before.router.digest
        workspace.close()
    print(
        f"{tasks:,} tasks: old texts read: {texts}; without the last task again: "
        f"{'the bytes of before' if same else 'ANOTHER ROUTER'}, {again.seconds:.2f} s"
    )
    middle = {name: statistics.median(one[name] for one in found) for name in found[0]}
    fit = sum(middle[part] for part in PARTS[:-1])
    return [
        f"{tasks:,}",
        kept,
        *(f"{middle[part]:.2f}" for part in PARTS[:-1]),
        f"**{fit:.2f}**",
        f"{middle['evaluate']:.2f}" if kept == "features" else "-",
        f"{middle['seconds']:.2f}",
        f"{whole:.1f}",
        f"{cache.stat().st_size / 1e6:.0f}",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, nargs="*", default=[13, 1001])
    parser.add_argument("--rows", type=int, default=2000, help="training and evaluation rows each")
    parser.add_argument("--measured", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", default=RouterConfig().kind, choices=("lda", "ridge"))
    parser.add_argument("--home", type=Path, help="folder for the banks; default a temporary one")
    options = parser.parse_args(argv)
    describe(0)
    with tempfile.TemporaryDirectory() as scratch:
        home = options.home or Path(scratch)
        lines = [bank_of(home / f"bank{tasks}", tasks, options) for tasks in options.tasks]
    print(
        "\n| tasks | keep | read, s | add, s | solve, s | these three | evaluate, s | in all, s "
        "| all anew, s | sums, MB |"
    )
    print("|---" * 10 + "|")
    for line in lines:
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
