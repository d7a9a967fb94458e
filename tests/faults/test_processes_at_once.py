"""Many processes on one bank: nothing that was promised is lost, whoever else was at work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import hammering
import pytest
from postgres_server import PostgresServer, places
from stored_files import BACKBONE

from expertbank.registry.sqlite.file import SqliteFile
from expertbank.workflows.home import DATABASE, DatabaseHome, FolderHome, Home

SECONDS = float(os.environ.get("EXPERTBANK_HAMMER_SECONDS", "5"))


@pytest.mark.slow
def test_eight_processes_adding_routing_removing_and_collecting_lose_nothing(
    tmp_path: Path,
) -> None:
    with SqliteFile(tmp_path / DATABASE).create() as registry:
        registry.set_backbone(BACKBONE)
    nothing_is_lost([FolderHome(tmp_path)], SECONDS)


@pytest.mark.slow
def test_nor_do_those_of_two_machines_on_a_bank_in_postgresql(
    tmp_path: Path, postgres: PostgresServer, fresh_postgres: str
) -> None:
    with places(postgres, fresh_postgres) as place:
        location = place()
        with location.open() as registry:
            registry.set_backbone(replace(BACKBONE, store=(tmp_path / "files").as_uri()))
        machines = [DatabaseHome(location, tmp_path / f"machine{n}") for n in range(2)]
        nothing_is_lost(machines, SECONDS / 2)


def nothing_is_lost(homes: Sequence[Home], seconds: float) -> None:
    """Hammer one bank, seen from several machines, and compare it with what was promised."""
    context = get_context("spawn")
    count = len(hammering.ROLES)
    barrier, results = context.Barrier(count), context.Queue()
    children = [
        context.Process(
            target=hammering.hammer, args=(homes[n % len(homes)], n, seconds, barrier, results)
        )
        for n in range(count)
    ]
    for child in children:
        child.start()
    found = [results.get(timeout=120) for _ in children]
    for child in children:
        child.join(timeout=60)
    assert [error for *_, error in found if error] == []
    assert all(turns for _, turns, *_ in found), "a process never had its turn"
    with homes[0].location.open(read_only=True) as registry:
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
    assert hammering.unverified(homes[0]) == []
