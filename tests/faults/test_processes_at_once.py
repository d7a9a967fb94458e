"""Many processes on one bank: nothing that was promised is lost, whoever else was at work."""

from __future__ import annotations

import os
from multiprocessing import get_context
from pathlib import Path

import hammering
import pytest
from stored_files import BACKBONE

from expertbank.registry.sqlite.file import SqliteFile
from expertbank.workflows.home import DATABASE

SECONDS = float(os.environ.get("EXPERTBANK_HAMMER_SECONDS", "5"))


@pytest.mark.slow
def test_eight_processes_adding_routing_removing_and_collecting_lose_nothing(
    tmp_path: Path,
) -> None:
    with SqliteFile(tmp_path / DATABASE).create() as registry:
        registry.set_backbone(BACKBONE)
    context = get_context("spawn")
    count = len(hammering.ROLES)
    barrier, results = context.Barrier(count), context.Queue()
    children = [
        context.Process(target=hammering.hammer, args=(tmp_path, n, SECONDS, barrier, results))
        for n in range(count)
    ]
    for child in children:
        child.start()
    found = [results.get(timeout=120) for _ in children]
    for child in children:
        child.join(timeout=60)
    assert [error for *_, error in found if error] == []
    assert all(turns for _, turns, *_ in found), "a process never had its turn"
    with SqliteFile(tmp_path / DATABASE).open(read_only=True) as registry:
        there = {f"{e.id} {e.digest}" for e in registry.experts()}
        routers = {f"router@{r.version} {r.digest}" for r in registry.routers()}
        generation = registry.generation()
    promised = [what for *_, told, _ in found for what in told]
    experts = [name for kind, name in promised if kind == "expert"]
    assert len(experts) > 5
    assert set(experts) == there, "exactly what was acknowledged is there"
    assert len(experts) == len(there), "one name was given twice"
    assert {name for kind, name in promised if kind == "router"} == routers
    assert generation >= len(there)
    assert hammering.unverified(tmp_path) == []
