"""What a bank costs as it grows: commits, and `list`, `show`, `add`'s part and `verify` by size.

Run it with: python examples/benchmarks/registry_scale.py [--sizes 10 100 1000 10000]

The experts are rows and small files made without training: one expert, its features and its
answers each, as `add` commits them, and one router over all of them. Commands are timed as
processes of their own would run them after their imports; every figure is the median of several.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from expertbank_cli.main import run
from machine import describe
from safetensors.numpy import save

from expertbank.artifacts.local import LocalStore
from expertbank.artifacts.store import ArtifactStore, sha256_bytes
from expertbank.config import FeatureSpec, canonical_json
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
from expertbank.registry import session
from expertbank.registry.registry import Registry
from expertbank.workflows.workspace import DATABASE, OBJECTS, now

BACKBONE = sha256_bytes(b"backbone")
SPEC = FeatureSpec(BACKBONE, 2, (0, 1, 2), ("mean", "first"))


def file_of(metadata: dict[str, object], **rows: int) -> bytes:
    """A sound file: one column of zeros for each name, with so many rows."""
    tensors = {name: np.zeros((count, 1), np.float16) for name, count in rows.items()}
    return save(tensors, metadata={"expertbank": canonical_json(metadata)})


def add(registry: Registry, store: ArtifactStore, number: int) -> None:
    """The registry's part of ``add``: three files, one transaction."""
    task, expert_id = f"task{number:05}", f"task{number:05}@1"
    about = {"of": task, "feature_spec_digest": SPEC.digest}
    blobs = {
        "expert": file_of(about, cores=2000),
        "features": file_of(about, train=200, evaluation=100),
        "oracle": file_of(about, logits=100),
    }
    digests = {kind: store.put(blob) for kind, blob in blobs.items()}
    labels = ("no", "yes")
    registry.commit_expert(
        TaskRecord(task, "classification", labels, {"columns": {"text": "text"}}, now()),
        run_record("add"),
        ExpertRecord(task, 1, digests["expert"], 4000, 700, 25_000, labels, "classification"),
        [ArtifactRecord(digests[kind], kind, len(blob)) for kind, blob in blobs.items()],
        FeatureSetRecord(
            expert_id, digests["features"], SPEC.digest, 1, 200, 100, len(blobs["features"])
        ),
        [EvaluationRecord(expert_id, 100, 90, digests["oracle"], {"accuracy": 0.9}, {})],
    )


def route(registry: Registry, store: ArtifactStore, size: int) -> float:
    """The registry's part of ``retrain-router`` over all experts; seconds of its commit alone."""
    experts = registry.members()
    members = tuple(expert.id for expert in experts)
    files = {name: file_of({"of": name, "among": size}, choice=100) for name in members}
    gate = file_of({"members": [[e.id, e.digest] for e in experts]}, weight=1)
    with without_sync():
        digests = {name: store.put(data) for name, data in files.items()}
        store.put(gate)
    started = time.perf_counter()
    registry.commit_router(
        RouterRecord(0, "ridge", sha256_bytes(gate), 9, members, SPEC.digest, {"accuracy": 0.9}),
        run_record("retrain-router"),
        [
            ArtifactRecord(sha256_bytes(gate), "router", len(gate)),
            *(ArtifactRecord(digests[name], "routed", len(files[name])) for name in members),
        ],
        [EvaluationRecord(name, 100, 89, digests[name], {}, {}) for name in members],
        expected_generation=registry.generation(),
        activate=True,
        reason="benchmark",
    )
    return time.perf_counter() - started


def run_record(kind: str) -> RunRecord:
    return RunRecord(kind, {"epochs": 3}, 0, {"torch": "2"}, {"rows": 8}, BACKBONE, 1.5)


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """Median of several runs."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def command(home: Path, *words: str) -> Callable[[], None]:
    def work() -> None:
        quiet = io.StringIO()
        with (
            contextlib.redirect_stdout(quiet),
            contextlib.redirect_stderr(quiet),
            contextlib.suppress(SystemExit),
        ):
            run(["--home", str(home), *words])

    return work


@contextlib.contextmanager
def without_sync() -> Iterator[None]:
    """SQLite and the store without waiting for the disk; to measure, never to use."""
    import os

    before, sync = session._WRITER_PRAGMAS, os.fsync
    session._WRITER_PRAGMAS = ("journal_mode=DELETE", "synchronous=OFF")
    os.fsync = lambda descriptor: None
    try:
        yield
    finally:
        session._WRITER_PRAGMAS, os.fsync = before, sync


def commits(folder: Path) -> None:
    """Median cost of one acknowledged expert, with and without fsync, in turn."""
    home = folder / "commits"
    home.mkdir()
    store, count = LocalStore(home / OBJECTS), iter(range(1_000))
    with Registry.create(home / DATABASE) as registry:
        registry.set_backbone(BackboneRecord(BACKBONE, "tiny", {}, SPEC, now()))
        for _ in range(20):
            add(registry, store, next(count))
        rounds: dict[str, list[float]] = {"with fsync": [], "without": []}
        for _ in range(20):
            rounds["with fsync"].append(seconds(lambda: add(registry, store, next(count)), 1))
            with without_sync():
                rounds["without"].append(seconds(lambda: add(registry, store, next(count)), 1))
    print("| one expert: 3 files and their rows | median ms | slowest of 20 |")
    print("|---|---|---|")
    for name, taken in rounds.items():
        print(f"| {name} | {statistics.median(taken) * 1e3:.1f} | {max(taken) * 1e3:.1f} |")
    print(f"\nSQLite {sqlite3.sqlite_version}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="*", type=int, default=[10, 100, 1_000, 10_000])
    options = parser.parse_args()
    describe(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commits(folder)
        home = folder / "bank"
        home.mkdir()
        store, made = LocalStore(home / OBJECTS), 0
        columns = ("add's commit", "router's commit", "list", "show", "show, misspelt", "history")
        columns += ("verify", "gc")
        print(f"| experts | {' | '.join(columns)} | database |")
        print("|" + "---|" * (len(columns) + 2))
        with Registry.create(home / DATABASE) as registry:
            registry.set_backbone(BackboneRecord(BACKBONE, "tiny", {}, SPEC, now()))
            for size in options.sizes:
                with without_sync():  # only to get there sooner
                    while made < size - 3:
                        add(registry, store, made)
                        made += 1
                spare = iter(range(made, made + 3))
                taken = [seconds(lambda spare=spare: add(registry, store, next(spare)))]
                made += 3
                taken.append(route(registry, store, size))
                commands = (
                    ("list",),
                    ("show", f"task{made // 2:05}"),
                    ("show", "taks"),
                    ("history",),
                    ("verify",),
                    ("gc", "--dry-run"),
                )
                taken += [seconds(command(home, "--json", *words)) for words in commands]
                size_of = (home / DATABASE).stat().st_size / 1e6
                figures = " | ".join(f"{value * 1e3:,.0f} ms" for value in taken)
                print(f"| {size:,} | {figures} | {size_of:.1f} MB |", flush=True)


if __name__ == "__main__":
    main()
