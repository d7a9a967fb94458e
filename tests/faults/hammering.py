"""Eight processes that use one bank at once, as fast as they can, for a bounded time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stored_files import stored_expert, stored_router

from expertbank.errors import ExistsError, ExpertBankError, StaleError
from expertbank.workflows.home import Home
from expertbank.workflows.keeping.check import check
from expertbank.workflows.keeping.collect import collect
from expertbank.workflows.keeping.remove import remove
from expertbank.workflows.workspace import Workspace

Place = str | Path | Home
Told = tuple[str, str]
"""What was done, and to what."""


def add(workspace: Workspace, rng: random.Random, who: str) -> Told | None:
    task = f"task{rng.randrange(40)}"
    with workspace.writing():
        version = workspace.registry.next_version(task)
        parts = stored_expert(workspace.store, task, version, f"{who} {rng.random()}")
        try:
            workspace.registry.commit_expert(**parts)
        except ExistsError:
            return None  # another process was faster
    return "expert", f"{task}@{version} {parts['expert'].digest}"


def retrain(workspace: Workspace, rng: random.Random, who: str) -> Told | None:
    registry = workspace.registry
    generation, members = registry.generation(), registry.members()
    if not members:
        return None
    with workspace.writing():
        parts = stored_router(workspace.store, members, f"{who} {rng.random()}")
        try:
            router = registry.commit_router(
                **parts, expected_generation=generation, activate=True, reason=who
            )
        except StaleError:
            return None
    return "router", f"router@{router.version} {router.digest}"


def sweep(workspace: Workspace, rng: random.Random, who: str) -> Told | None:
    collect(workspace, purge_removed=rng.random() < 0.5, grace_hours=0)
    return None


def take_out(workspace: Workspace, rng: random.Random, who: str) -> Told | None:
    alive = workspace.registry.tasks()
    if len(alive) > 5:
        remove(workspace, rng.choice(alive).name)
    return None


def look(workspace: Workspace, rng: random.Random, who: str) -> Told | None:
    workspace.registry.history()
    problems = workspace.registry.check()
    if problems:
        raise AssertionError(f"{who} saw {problems}")
    return None


ROLES: tuple[Callable[[Workspace, random.Random, str], Told | None], ...] = (
    add,
    add,
    add,
    retrain,
    retrain,
    sweep,
    take_out,
    look,
)


def hammer(
    home: str | Path | Home, number: int, seconds: float, barrier: Any, results: Any
) -> None:
    """One process: its own role over and over; what it was promised goes to ``results``."""
    workspace = Workspace.open(home)
    rng = random.Random(number)
    told: list[Told] = []
    turns = 0
    try:
        barrier.wait(timeout=60)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done = ROLES[number % len(ROLES)](workspace, rng, f"process {number}")
            turns += 1
            if done is not None:
                told.append(done)
        results.put((number, turns, told, ""))
    except (ExpertBankError, AssertionError) as error:
        results.put((number, turns, told, f"{type(error).__name__}: {error}"))


def unverified(home: Place) -> list[str]:
    """What ``verify`` finds wrong."""
    return [f"{p.what} ({p.where})" for p in check(Workspace.open(home, read_only=True)).problems]
