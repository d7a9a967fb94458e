"""What a bank of thousands of experts costs: commits, and whole commands from start to exit.

Run it with: python examples/benchmarks/registry_scale.py [--experts 10000] [--routers 5] [--runs 5]

Every expert has three files of random bytes on disk: weights of 40 kB (a real one on MiniLM has
37 to 41 kB), routing features and answers. Feature rows and gates are narrow, 48 numbers for a
real one's 2,304. The routers are trained as the bank grows, over all the experts of their time,
and each keeps a file of choices for every member. Commands run as processes of their own, one
after the other in every round; a figure is the median of the rounds and, in brackets, the
slowest one. Memory is the peak of the process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import describe
from safetensors.numpy import save

from expertbank.artifacts.local import LocalStore
from expertbank.artifacts.store import ArtifactStore, sha256_bytes
from expertbank.clock import now
from expertbank.config import FeatureSpec, canonical_json, sha256_text
from expertbank.evaluation.evidence import RoutedEvidence, summary
from expertbank.evaluation.predictions import Predictions
from expertbank.records import (
    ArtifactRecord,
    BackboneRecord,
    EvaluationRecord,
    ExpertRecord,
    FeatureSetRecord,
    RouterRecord,
    RunRecord,
    TaskRecord,
)
from expertbank.registry.registry import Registry
from expertbank.registry.sqlite import connection
from expertbank.workflows.home import OBJECTS, FolderHome

BACKBONE = sha256_bytes(b"backbone")
SPEC = FeatureSpec(BACKBONE, 2, (0, 1, 2), ("mean", "first"))
ADAPTER, HEAD, WIDTH, TRAIN, EVALUATION, RIGHT = 9_230, 770, 48, 200, 100, 90
LABELS = ("no", "yes")
NOISE = np.random.default_rng(0)


def file_of(about: dict[str, object], **shapes: tuple[int, ...]) -> bytes:
    """A file as the store keeps them: ``about`` in its header, float32 noise in its tensors."""
    tensors = {name: NOISE.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return save(tensors, metadata={"expertbank": canonical_json(about)})


def answers_of(task: str) -> Predictions:
    """Noise for answers, of which so many are right."""
    logits = NOISE.standard_normal((EVALUATION, len(LABELS)), np.float32)
    targets = logits.argmax(1).astype(np.int32)
    targets[RIGHT:] = 1 - targets[RIGHT:]
    rows = tuple(sha256_text(f"{task} {row}") for row in range(EVALUATION))
    return Predictions(logits, targets, rows)


def add(registry: Registry, store: ArtifactStore, number: int) -> None:
    """What ``add`` keeps of one expert: three files, one transaction."""
    task, expert_id = f"task{number:05}", f"task{number:05}@1"
    about = {"of": task, "feature_spec_digest": SPEC.digest}
    own = {"task": task, "kind": "classification", "labels": list(LABELS)}
    weights = {"cores": (ADAPTER,), "head.weight": (HEAD,)}
    files = {
        "expert": file_of({**about, **own}, **weights),
        "features": file_of(about, train=(TRAIN, WIDTH), evaluation=(EVALUATION, WIDTH)),
        "oracle": answers_of(task).to_bytes(),
    }
    digests = {kind: store.put(data) for kind, data in files.items()}
    sizes = {kind: len(data) for kind, data in files.items()}
    registry.commit_expert(
        TaskRecord(task, "classification", LABELS, {"columns": {"text": "text"}}, now()),
        run_of("add"),
        ExpertRecord(
            task, 1, digests["expert"], ADAPTER, HEAD, sizes["expert"], LABELS, "classification"
        ),
        [ArtifactRecord(digests[kind], kind, size) for kind, size in sizes.items()],
        FeatureSetRecord(
            expert_id, digests["features"], SPEC.digest, WIDTH, TRAIN, EVALUATION, sizes["features"]
        ),
        [EvaluationRecord(expert_id, EVALUATION, RIGHT, digests["oracle"], {"accuracy": 0.9}, {})],
    )


def route(registry: Registry, store: ArtifactStore) -> float:
    """What ``retrain-router`` keeps of a router over all experts; seconds of its commit alone."""
    experts = registry.members()
    gate = file_of({"members": [[e.id, e.digest] for e in experts]}, weight=(len(experts), WIDTH))
    tasks, of = [e.task for e in experts], len(experts)
    choices = {
        e.id: RoutedEvidence.of(tasks, np.full(EVALUATION, place), f"{of} {e.id}").to_bytes()
        for place, e in enumerate(experts)
    }
    digests = {name: store.put(data) for name, data in choices.items()}
    accuracy = {"accuracy": 0.9, "per_task": {e.task: 0.9 for e in experts}}
    router = RouterRecord(
        0, "lda", store.put(gate), WIDTH * len(experts), tuple(digests), SPEC.digest, accuracy
    )
    started = time.perf_counter()
    registry.commit_router(
        router,
        replace(run_of("retrain-router"), data={"evidence": summary(digests)}),
        [
            ArtifactRecord(router.digest, "router", len(gate)),
            *(ArtifactRecord(digests[name], "routed", len(data)) for name, data in choices.items()),
        ],
        [
            EvaluationRecord(name, EVALUATION, RIGHT, digest, {}, {})
            for name, digest in digests.items()
        ],
        expected_generation=registry.generation(),
        activate=True,
        reason="benchmark",
        members={expert.id: expert.digest for expert in experts},
    )
    return time.perf_counter() - started


def run_of(kind: str) -> RunRecord:
    return RunRecord(kind, {"epochs": 3}, 0, {"torch": "2"}, {"rows": 8}, BACKBONE, 1.5)


@contextlib.contextmanager
def without_sync() -> Iterator[None]:
    """SQLite and the store without waiting for the disk; to get there sooner, never to use."""
    before, sync = connection._WRITER_PRAGMAS, os.fsync
    connection._WRITER_PRAGMAS = ("journal_mode=DELETE", "synchronous=OFF")
    os.fsync = lambda descriptor: None
    try:
        yield
    finally:
        connection._WRITER_PRAGMAS, os.fsync = before, sync


_LAUNCH = """
import os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
code, taken = os.waitstatus_to_exitcode(status), time.perf_counter() - started
print(code, taken, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def command(home: Path | str, words: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of processor and peak memory in MB of one command, start to exit."""
    program = [sys.executable, "-m", "expertbank_cli.main"]
    # From a small process: a child's peak counts what its parent held when it was forked.
    ended = subprocess.run(
        [sys.executable, "-c", _LAUNCH, *program, "--home", str(home), *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    code, taken, processor, memory = ended.stdout.split()
    assert int(code) == (10 if "taks" in words else 0), (words, code)
    return float(taken), float(processor), int(memory) / 1e3


def grow(home: Path, experts: int, routers: int) -> None:
    """A bank with so many experts, and so many routers trained as it grew."""
    store, milestones = (
        LocalStore(home / OBJECTS),
        [experts * (n + 1) // routers for n in range(routers)],
    )
    print("| experts | one expert's commit, its 3 files included | the router's commit |")
    print("|---|---|---|")
    with FolderHome(home).location.create() as registry:
        registry.set_backbone(BackboneRecord(BACKBONE, "tiny", {}, SPEC, now()))
        number = 0
        for milestone in milestones:
            with without_sync():
                while number < milestone - 10:
                    add(registry, store, number)
                    number += 1
            taken = []
            while number < milestone:
                started = time.perf_counter()
                add(registry, store, number)
                taken.append(time.perf_counter() - started)
                number += 1
            with without_sync():
                commit = route(registry, store)
            print(f"| {number:,} | {statistics.median(taken) * 1e3:.1f} ms | {commit:.2f} s |")
    print(flush=True)


def measure(home: Path, experts: int, runs: int) -> None:
    """Every command, in turn, as often as asked for."""
    middle = f"task{experts // 2:05}"
    commands = {
        "--help (start-up alone)": ["--help"],
        "list": ["list"],
        "list --json": ["--json", "list"],
        "show TASK": ["show", middle],
        "show active": ["show", "active"],
        "show, misspelt": ["show", "taks"],
        "history": ["history"],
        "alias": ["alias"],
        "alias NAME ROUTER": ["alias", "stable", "1"],
        "verify": ["--quiet", "verify"],
        "gc --dry-run": ["gc", "--dry-run"],
    }
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, words in commands.items():
            taken[name].append(command(home, words))
    print("| command | seconds, median (slowest) | of processor | peak memory |")
    print("|---|---|---|---|")
    for name, found in taken.items():
        times, processor, memory = zip(*found, strict=True)
        print(
            f"| {name} | {statistics.median(times):.2f} ({max(times):.2f}) "
            f"| {statistics.median(processor):.2f} | {max(memory):.0f} MB |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experts", type=int, default=10_000)
    parser.add_argument("--routers", type=int, default=5)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    describe(0)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "bank"
        home.mkdir()
        grow(home, options.experts, options.routers)
        files = [path.stat().st_size for path in (home / OBJECTS).rglob("*") if path.is_file()]
        database = FolderHome(home).location.path.stat().st_size
        print(
            f"{len(files):,} files, {sum(files) / 1e6:,.0f} MB; database {database / 1e6:.1f} MB\n"
        )
        measure(home, options.experts, options.runs)


if __name__ == "__main__":
    main()
