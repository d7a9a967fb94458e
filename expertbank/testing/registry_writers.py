"""What a registry promises to threads and processes that write at once, and after one is killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

from expertbank.errors import ExpertBankError
from expertbank.registry.registry import Registry, RegistryLocation
from expertbank.testing.bank_rows import expert_parts, router_parts, sha

Work = Callable[[RegistryLocation, int], Any]


class WriterPromises:
    """Tests that ``RegistryConformance`` runs."""

    def test_five_processes_may_create_the_registry_at_once(
        self, nowhere: Callable[[], RegistryLocation]
    ) -> None:
        assert together(create, nowhere(), 5) == ["sound"] * 5

    def test_of_six_processes_adding_one_expert_exactly_one_wins(
        self, empty: Registry, location: RegistryLocation
    ) -> None:
        results = together(add_same_expert, location, 6)
        assert sorted(results) == ["ExistsError"] * 5 + ["added"]
        assert [expert.id for expert in empty.experts()] == ["boolq@1"]
        assert len(empty.artifacts()) == 4
        assert empty.check() == ()

    def test_writers_wait_for_each_other_and_lose_nothing(
        self, empty: Registry, location: RegistryLocation
    ) -> None:
        results = together(add_next_versions, location, 3)
        assert sorted(name for names in results for name in names) == sorted(
            f"task{number}@{version}" for number in range(3) for version in range(1, 6)
        )
        assert empty.generation() == 15

    def test_router_versions_are_given_once_and_alias_moves_form_one_chain(
        self, full: Registry, location: RegistryLocation
    ) -> None:
        results = together(add_routers, location, 3)
        assert sorted(version for versions in results for version in versions) == list(range(3, 18))
        events = full.alias_events("active")
        assert [event.previous_version for event in events[1:]] == [
            event.router_version for event in events[:-1]
        ]
        assert full.check() == ()

    def test_threads_may_share_an_open_registry(self, empty: Registry) -> None:
        def add(number: int) -> None:
            for version in range(1, 6):
                empty.commit_expert(**expert_parts(f"task{number}", version))
                assert empty.expert(f"task{number}").version == version
                assert {e.id for e in empty.members()} <= {e.id for e in empty.experts()}

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(add, range(4)))
        assert len(empty.experts()) == empty.generation() == 20
        assert empty.check() == ()

    def test_a_killed_writer_leaves_whole_records_only(
        self, empty: Registry, location: RegistryLocation
    ) -> None:
        chance, promised = random.Random(20), set[str]()
        for _ in range(10):
            here, there = multiprocessing.Pipe(duplex=False)
            child = multiprocessing.Process(target=add_until_killed, args=(location, there))
            child.start()
            there.close()
            for _ in range(chance.randrange(1, 8)):
                promised.add(here.recv())
            time.sleep(chance.uniform(0.0, 0.02))
            child.kill()
            child.join()
            with contextlib.suppress(EOFError):  # what it still said before it died
                while True:
                    promised.add(here.recv())
            _assert_whole(empty, promised)
        assert len(promised) > 10


def _assert_whole(registry: Registry, promised: set[str]) -> None:
    assert registry.check() == ()
    experts, routers = registry.experts(), registry.routers()
    names = {expert.id for expert in experts} | {f"router@{r.version}" for r in routers}
    assert promised <= names
    assert {expert.task for expert in experts} == {task.name for task in registry.tasks()}
    oracle = [e.expert_id for e in registry.evaluations(router_version="oracle")]
    assert sorted(oracle) == sorted(expert.id for expert in experts)
    routed = registry.evaluations(router_version="routed")
    assert len(routed) == sum(len(router.members) for router in routers)
    assert len(registry.artifacts()) == 4 * len(experts) + len(routers) + len(routed)
    for number in [e.run_id for e in experts[-2:]] + [r.run_id for r in routers[-2:]]:
        assert number is not None
        assert registry.run(number).id == number
    for expert in experts[-2:]:
        assert registry.feature_set(expert.id).expert_id == expert.id
        assert expert.id in {one.expert_id for one in registry.statistics()}


def together(work: Work, location: RegistryLocation, processes: int) -> list[Any]:
    """Results of ``work(location, number)`` in fresh processes that begin at one time."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    children = [
        context.Process(target=_child, args=(work, location, number, barrier, results))
        for number in range(processes)
    ]
    for child in children:
        child.start()
    found = [results.get(timeout=120) for _ in children]
    for child in children:
        child.join(timeout=60)
    return found


def _child(
    work: Work, location: RegistryLocation, number: int, barrier: Barrier, results: Any
) -> None:
    barrier.wait(timeout=60)
    try:
        results.put(work(location, number))
    except Exception as error:  # noqa: BLE001 - the parent judges it
        results.put(f"{type(error).__name__}: {error}")


def create(location: RegistryLocation, number: int) -> str:
    with location.create() as registry:
        return ",".join(problem.what for problem in registry.check()) or "sound"


def add_same_expert(location: RegistryLocation, number: int) -> str:
    parts = expert_parts("boolq", digest=sha(f"bytes of {number}"))
    try:
        location.open().commit_expert(**parts)
    except ExpertBankError as error:
        return type(error).__name__
    return "added"


def add_next_versions(location: RegistryLocation, number: int) -> list[str]:
    registry = location.open()
    return [
        registry.commit_expert(**expert_parts(f"task{number}", version)).id
        for version in range(1, 6)
    ]


def add_routers(location: RegistryLocation, number: int) -> list[int]:
    registry = location.open()
    return [
        registry.commit_router(**router_parts(registry, f"{number}-{turn}")).version
        for turn in range(5)
    ]


def add_until_killed(location: RegistryLocation, pipe: Connection) -> None:
    """Commit experts and routers without end; each is acknowledged on ``pipe``."""
    registry = location.open()
    turn = len(registry.experts())
    while True:
        pipe.send(registry.commit_expert(**expert_parts(f"task{turn}")).id)
        if turn % 5 == 0:
            version = registry.commit_router(**router_parts(registry)).version
            pipe.send(f"router@{version}")
        turn += 1
