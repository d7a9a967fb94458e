"""What the registry's tests run in other processes; spawned, so importable by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bank_rows import expert_parts, router_parts, sha

from expertbank.errors import ExpertBankError
from expertbank.registry.registry import Registry


def together(work: Callable[..., Any], path: Path, processes: int) -> list[Any]:
    """Results of ``work(path, number)`` in fresh processes that begin at one moment."""
    context = get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    children = [
        context.Process(target=_child, args=(work, path, number, barrier, results))
        for number in range(processes)
    ]
    for child in children:
        child.start()
    found = [results.get(timeout=120) for _ in children]
    for child in children:
        child.join(timeout=60)
    return found


def _child(work, path, number, barrier, results) -> None:
    barrier.wait(timeout=60)
    try:
        results.put(work(path, number))
    except Exception as error:  # noqa: BLE001 - the parent judges it
        results.put(f"{type(error).__name__}: {error}")


def create(path: Path, number: int) -> str:
    with Registry.create(path) as registry:
        return ",".join(problem.what for problem in registry.check()) or "sound"


def add_same_expert(path: Path, number: int) -> str:
    parts = expert_parts("boolq", digest=sha(f"bytes of {number}"))
    try:
        Registry.open(path).commit_expert(**parts)
    except ExpertBankError as error:
        return type(error).__name__
    return "added"


def add_next_versions(path: Path, number: int) -> list[str]:
    registry = Registry.open(path)
    return [
        registry.commit_expert(**expert_parts(f"task{number}", version)).id
        for version in range(1, 6)
    ]


def add_routers(path: Path, number: int) -> list[int]:
    registry = Registry.open(path)
    return [
        registry.commit_router(**router_parts(registry, f"{number}-{turn}")).version
        for turn in range(5)
    ]


def add_until_killed(registry: Registry, pipe: int) -> None:
    """Commit experts and routers without end; each is acknowledged on ``pipe``."""
    turn = len(registry.experts())
    while True:
        expert = registry.commit_expert(**expert_parts(f"task{turn}"))
        os.write(pipe, f"{expert.id}\n".encode())
        if turn % 5 == 0:
            router = registry.commit_router(**router_parts(registry))
            os.write(pipe, f"router@{router.version}\n".encode())
        turn += 1


def forked(work: Callable[..., object], *arguments: Any) -> int:
    """Process id of a fork that runs ``work`` and then ends: 0 when it did not fail."""
    child = os.fork()
    if child:
        return child
    try:
        work(*arguments)
        os._exit(0)
    finally:
        os._exit(1)
