"""A bank as releases of before left it, and rows edited as somebody would who knows SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from expertbank import Bank
from expertbank.artifacts.local import LocalStore
from expertbank.evaluation.routing import Routed
from expertbank.routing.feature_file import FeatureFile
from expertbank.routing.router import Router
from expertbank.workflows.choices import routed


@contextmanager
def without_triggers(home: Path) -> Iterator[sqlite3.Connection]:
    """The bank's database with every row open to change; the triggers come back at the end."""
    with sqlite3.connect(home / "registry.db") as database:
        database.execute("PRAGMA foreign_keys = OFF")
        kept = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        triggers = kept.fetchall()
        for name, _ in triggers:
            database.execute(f'DROP TRIGGER "{name}"')
        yield database
        for _, sql in triggers:
            database.execute(sql)
    database.close()


def put(home: Path, data: bytes, kind: str = "routed") -> str:
    """Store and register a file, and give its digest."""
    digest = LocalStore(home / "objects").put(data)
    with sqlite3.connect(home / "registry.db") as database:
        database.execute(
            "INSERT OR IGNORE INTO artifacts (digest, kind, bytes, created_at) VALUES (?, ?, ?, ?)",
            (digest, kind, len(data), ""),
        )
    database.close()
    return digest


def every_choice(home: Path) -> dict[tuple[int, str], tuple[Routed, Router]]:
    """What each router chooses for each member's rows, routed anew from the cached features."""
    found = {}
    with Bank.open(home, read_only=True) as bank:
        store = LocalStore(home / "objects")
        for record in bank.routers():
            if record.forgotten_at is None:
                router = Router.from_bytes(store.get(record.digest), f"router@{record.version}")
                for name in record.members:
                    data = store.get(bank.registry.feature_set(name).digest)
                    file = FeatureFile.from_bytes(data, name)
                    choice, _ = routed(router, file.evaluation, file.evaluation_shapes)
                    found[record.version, name] = choice, router
    return found


def as_before(home: Path) -> None:
    """Store all choices of all routers: positions and confidences, a file and a row of each.

    Runs of routers name every feature file again, and say nothing of evidence.
    """
    chosen = every_choice(home)
    with Bank.open(home, read_only=True) as bank:
        held = {
            (version, row.expert_id): row
            for version in {version for version, _ in chosen}
            for row in bank.registry.evaluations(router_version=version)
        }
        stored = {one.expert_id: one.digest for one in bank.registry.feature_sets()}
        runs = {r.run_id: {name: stored[name] for name in r.members} for r in bank.routers()}
        now = {row.artifact_digest for row in bank.registry.evaluations(router_version="routed")}
    about = {"expertbank": json.dumps({"format": 1, "evidence": "routed"})}
    files = {
        key: put(
            home,
            save({"choice": one.choice, "confidence": np.copy(one.confidence)}, metadata=about),
        )
        for key, (one, _) in chosen.items()
    }
    with without_triggers(home) as database:
        query = (
            "SELECT tasks.name || '@' || experts.version, experts.id FROM experts "
            "JOIN tasks ON tasks.id = experts.task_id"
        )
        numbers = dict(database.execute(query).fetchall())
        database.execute("DELETE FROM evaluations WHERE router_version IS NOT NULL")
        for (version, name), row in held.items():
            database.execute(
                "INSERT INTO evaluations (expert_id, router_version, n, correct, artifact_digest, "
                "metrics, environment, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    numbers[name],
                    version,
                    row.n,
                    row.correct,
                    files[version, name],
                    json.dumps(dict(row.metrics)),
                    json.dumps(dict(row.environment)),
                    row.created_at,
                ),
            )
        for digest in now:
            database.execute("DELETE FROM artifacts WHERE digest = ?", (digest,))
        for run, features in runs.items():
            data = json.dumps({"features": features})
            database.execute("UPDATE runs SET data = ? WHERE id = ?", (data, run))
    for digest in now:
        LocalStore(home / "objects").delete(digest)
