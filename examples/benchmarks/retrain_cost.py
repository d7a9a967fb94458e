"""What retraining the router costs as tasks are added, in time and in memory.

Run it with: python examples/benchmarks/retrain_cost.py ../shared/data [--cache DIR]

First the fit over real cached features of 2 to 12 tasks, for every gate. Then the command itself,
`expertbank retrain-router`, as a process of its own over banks that keep statistics: a folder
with a real database and one file of 512-dimensional moments a task (1.05 MB), each of rows drawn
about a centre of the task's own. Seconds are what the command says; processor time and memory are
the whole process's, imports and torch and all. `--banks 10000` writes 10.5 GB. Old texts read: the
command says so itself. Last, what a task's routing memory takes in bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from expertbank.routing.moments_file import WIDTH, MomentsFile
from machine import describe
from routing_features import DEFAULT_POOLINGS, DEFAULT_STATES, arguments, real_tasks

from expertbank.artifacts.local import LocalStore
from expertbank.config import FeatureSpec, sha256_text
from expertbank.records import (
    ArtifactRecord,
    BackboneRecord,
    EvaluationRecord,
    ExpertRecord,
    FeatureSetRecord,
    RunRecord,
    TaskRecord,
)
from expertbank.registry.registry import Registry
from expertbank.routing.config import RouterConfig
from expertbank.routing.feature_file import FeatureFile
from expertbank.routing.fit import fit_router
from expertbank.routing.gates import GATES
from expertbank.routing.moments import Moments
from expertbank.workflows.workspace import OBJECTS, database_of, now

BACKBONE = sha256_text("backbone")
SPEC = FeatureSpec(BACKBONE, 2, DEFAULT_STATES, DEFAULT_POOLINGS, keep="stats")
DIMENSION = len(DEFAULT_STATES) * len(DEFAULT_POOLINGS) * 384
"""Width of MiniLM's routing features, of which the kept moments are a projection."""
ROWS = 600


def moments_of(name: str) -> MomentsFile:
    """Moments of rows around a centre of their own; every fourth task reads pairs of texts."""
    seed = int(sha256_text(name)[:12], 16)
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(WIDTH, generator=generator)
    own = Moments.of(centre + torch.randn(ROWS, WIDTH, generator=generator))
    counts = (0, ROWS, 0) if seed % 4 == 0 else (ROWS, 0, 0)
    return MomentsFile(counts, own.total, own.gram, DIMENSION, SPEC.digest)


def keep(registry: Registry, store: LocalStore, number: int) -> None:
    """One more task in the bank, as ``add`` commits it; its expert is a few bytes."""
    task = f"task{number:05}"
    blobs = {
        "expert": f"expert of {task}".encode(),
        "features": moments_of(task).to_bytes(),
        "oracle": f"answers of {task}".encode(),
    }
    digests = {kind: store.put(blob) for kind, blob in blobs.items()}
    size, labels = len(blobs["features"]), ("no", "yes")
    registry.commit_expert(
        TaskRecord(task, "classification", labels, {"columns": {"text": "text"}}, now()),
        RunRecord("add", {}, 0, {}, {}, BACKBONE, 1.0),
        ExpertRecord(task, 1, digests["expert"], 8000, 770, 35_000, labels, "classification"),
        [ArtifactRecord(digests[kind], kind, len(blob)) for kind, blob in blobs.items()],
        FeatureSetRecord(f"{task}@1", digests["features"], SPEC.digest, WIDTH, ROWS, 0, size),
        [EvaluationRecord(f"{task}@1", 100, 90, digests["oracle"], {"accuracy": 0.9}, {})],
    )


def retrained(home: Path, kind: str) -> tuple[dict[str, Any], float, float]:
    """What the command answers in a process of its own, its processor time, its MiB at most."""
    words = ["--home", str(home), "--quiet", "--json", "retrain-router", "--kind", kind]
    answer = home / "answer.json"
    with answer.open("w") as out:
        child = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "expertbank_cli.main", *words],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)],
        )
        _, status, used = os.wait4(child, 0)
    if status != 0:
        raise SystemExit(f"retrain-router ended with {os.waitstatus_to_exitcode(status)}")
    return json.loads(answer.read_text()), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def banks(sizes: Sequence[int], kind: str, home: Path) -> None:
    """Grow a bank to each of the sizes and retrain its router there."""
    home.mkdir(parents=True, exist_ok=True)
    print(f"\n{kind} from kept moments of {WIDTH} dimensions, read from files")
    print("| tasks | files, GB | seconds | processor, s | most memory, MiB | router, MB |")
    print("|---|---|---|---|---|---|")
    found, here, texts = [], 0, 0
    store = LocalStore(home / OBJECTS)
    with database_of(home).create() as registry:
        registry.set_backbone(BackboneRecord(BACKBONE, "nowhere", {}, SPEC, now()))
        for size in sorted(sizes):
            for number in range(here, size):
                keep(registry, store, number)
            here = size
            document, processor, held = retrained(home, kind)
            kept = sum(record.bytes for record in registry.feature_sets())
            router = len(store.get(document["router"]["digest"]))
            texts += document["old_texts_read"]
            found.append((size, processor))
            print(
                f"| {size:,} | {kept / 1e9:.2f} | {document['seconds']:.2f} | {processor:.2f} "
                f"| {held:,.0f} | {router / 1e6:.1f} |",
                flush=True,
            )
    for (few, before), (many, after) in pairwise(found):
        print(f"{many / few:.0f} times the tasks took {after / before:.1f} times the processor")
    print(f"old texts read: {texts}")


def real_features(options: argparse.Namespace) -> None:
    """The fit over real features of more and more tasks."""
    tasks = [task.fitted_on(tuning=False) for task in real_tasks(options)]
    steps = [number for number in options.steps if number <= len(tasks)]
    print("| gate | " + " | ".join(f"{number} tasks, s" for number in steps) + " |")
    print("|---" * (len(steps) + 1) + "|")
    for kind in options.kinds:
        seconds = []
        for number in steps:
            started = time.monotonic()
            fit_router(tasks[:number], RouterConfig(kind), "0" * 64)
            seconds.append(time.monotonic() - started)
        print(f"| {kind} | " + " | ".join(f"{value:.2f}" for value in seconds) + " |", flush=True)


def bytes_a_task() -> None:
    """What is kept of a task with 2,000 training and as many evaluation rows."""
    rows, other = (torch.zeros(2000, DIMENSION, dtype=torch.float16) for _ in range(2))
    shapes = ("pair",) * 2000
    features = len(FeatureFile(rows, other, shapes, shapes, "0" * 64).to_bytes())
    moments = 8 * (WIDTH * (WIDTH + 1) // 2 + WIDTH)
    gate = 4 * (DIMENSION + 1) + 4 * 256
    print("\n| kept | a task, bytes | 10,000 tasks, GB |")
    print("|---|---|---|")
    print(f"| features, {DIMENSION} wide | {features:,} | {features / 1e5:,.1f} |")
    print(f"| moments, {WIDTH} wide | {moments:,} | {moments / 1e5:,.1f} |")
    print(f"| in the router, lda | {gate:,} | {gate / 1e5:,.2f} |")


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="*", default=[2, 4, 8, 12])
    parser.add_argument("--banks", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--home", type=Path, help="folder for the bank; default a temporary one")
    parser.add_argument("--kinds", nargs="*", default=GATES.names(), choices=GATES.names())
    options = parser.parse_args(argv)
    describe(options.seed)
    if options.steps:
        real_features(options)
    if options.banks:
        with tempfile.TemporaryDirectory() as scratch:
            banks(options.banks, RouterConfig().kind, options.home or Path(scratch) / "bank")
    bytes_a_task()


if __name__ == "__main__":
    main()
