"""Promises that only hold if they hold between real processes."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time

import registry_processes as work
from bank_rows import expert_parts

from expertbank.registry.registry import Registry


def test_five_processes_may_create_the_registry_at_once(path) -> None:
    assert work.together(work.create, path, 5) == ["sound"] * 5
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_of_six_processes_adding_one_expert_exactly_one_wins(empty, path) -> None:
    results = work.together(work.add_same_expert, path, 6)
    assert sorted(results) == ["ExistsError"] * 5 + ["added"]
    assert [expert.id for expert in empty.experts()] == ["boolq@1"]
    assert len(empty.artifacts()) == 3
    assert len(empty.runs()) == 1
    assert empty.check() == ()


def test_writers_wait_for_each_other_and_lose_nothing(empty, path) -> None:
    results = work.together(work.add_next_versions, path, 3)
    assert sorted(id_ for ids in results for id_ in ids) == sorted(
        f"task{number}@{version}" for number in range(3) for version in range(1, 6)
    )
    assert empty.generation() == 15


def test_router_versions_are_given_once_and_alias_moves_form_one_chain(full, path) -> None:
    results = work.together(work.add_routers, path, 3)
    assert sorted(version for versions in results for version in versions) == list(range(3, 18))
    events = full.alias_events("active")
    assert [event.previous_version for event in events[1:]] == [
        event.router_version for event in events[:-1]
    ]
    assert full.check() == ()


def test_a_killed_writer_leaves_whole_rows_only(empty, path) -> None:
    chance = random.Random(20)
    promised: set[str] = set()
    turns = 0
    while turns < 20 or (len(promised) <= 10 and turns < 200):  # however slow the machine is
        turns += 1
        reader, writer = os.pipe()
        child = work.forked(work.add_until_killed, empty, writer)
        os.close(writer)
        time.sleep(chance.uniform(0.0, 0.12) * (1 + turns // 20))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as pipe:
            promised.update(line.decode().strip() for line in pipe if line.endswith(b"\n"))
        assert_whole(Registry.open(path), promised)
    assert len(promised) > 10


def assert_whole(registry: Registry, promised: set[str]) -> None:
    assert registry.check() == ()
    experts = registry.experts()
    routers = registry.routers()
    known = {expert.id for expert in experts} | {f"router@{r.version}" for r in routers}
    assert promised <= known
    assert {expert.task for expert in experts} == {task.name for task in registry.tasks()}
    oracle = [e.expert_id for e in registry.evaluations(router_version="oracle")]
    assert sorted(oracle) == sorted(expert.id for expert in experts)
    assert len(registry.runs()) == len(experts) + len(routers)
    routed = registry.evaluations(router_version="routed")
    assert len(routed) == sum(len(router.members) for router in routers)
    assert len(registry.artifacts()) == 3 * len(experts) + len(routers) + len(routed)
    for expert in experts[-2:]:
        assert registry.feature_set(expert.id).expert_id == expert.id


def test_a_reader_undoes_what_a_killed_writer_left_in_the_file(full, path) -> None:
    reader, writer = os.pipe()

    def spill_then_wait() -> None:
        raw = sqlite3.connect(path, isolation_level=None)
        raw.execute("PRAGMA cache_size=1")  # unfinished pages go into the file itself
        raw.execute("BEGIN IMMEDIATE")
        for number in range(2000):
            raw.execute(
                "INSERT INTO runs VALUES (?, 'x', '{}', 0, '{}', '{}', "
                "(SELECT digest FROM backbones), 0, '')",
                (number + 100,),
            )
        os.write(writer, b"!")
        time.sleep(60)

    child = work.forked(spill_then_wait)
    assert os.read(reader, 1) == b"!"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert path.with_name(f"{path.name}-journal").exists()
    registry = Registry.open(path, read_only=True)
    assert len(registry.runs()) == 5
    assert registry.check() == ()
    assert not path.with_name(f"{path.name}-journal").exists()


def test_a_registry_opened_before_a_fork_works_on_both_sides(empty) -> None:
    child = work.forked(lambda: empty.commit_expert(**expert_parts("child")))
    empty.commit_expert(**expert_parts("parent"))
    assert os.waitpid(child, 0)[1] == 0
    assert [expert.id for expert in empty.experts()] == ["child@1", "parent@1"]
