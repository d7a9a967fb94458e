"""Tombstones, and letting go of what only removed tasks need."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bank_rows import expert_parts, router_parts, run, sha

from expertbank.errors import NotFoundError, StaleError


@pytest.fixture
def removing():
    def of(registry, task):
        return registry.remove_task(task, replace(run("remove"), config={"task": task}))

    return of


def purge_run(purge):
    return replace(run("purge"), config={"tasks": list(purge.tasks)})


def test_a_removed_task_is_left_out_of_the_next_router_and_its_rows_stay(full, removing) -> None:
    experts = full.experts()
    generation = full.generation()
    assert removing(full, "boolq").removed_at is not None
    assert [expert.id for expert in full.members()] == ["sst2@1"]
    assert full.experts() == experts
    assert full.generation() == generation + 1
    assert full.commit_router(**router_parts(full)).members == ("sst2@1",)
    assert full.check() == ()


def test_removing_twice_changes_nothing_the_second_time(full, removing) -> None:
    first = removing(full, "boolq")
    generation, runs = full.generation(), full.runs()
    assert removing(full, "boolq") == first
    assert (full.generation(), full.runs()) == (generation, runs)


def test_a_removal_makes_a_router_trained_before_it_stale(full, removing) -> None:
    parts = router_parts(full, "trained before")
    removing(full, "boolq")
    with pytest.raises(StaleError):
        full.commit_router(**parts)


def test_history_keeps_a_removal_also_when_the_task_comes_back(full, removing) -> None:
    removing(full, "boolq")
    full.commit_expert(**expert_parts("boolq", 3))
    assert full.task("boolq").removed_at is None
    assert [e.subject for e in full.history() if e.kind == "task-removed"] == ["boolq"]


def test_removing_an_unknown_task_names_near_ones(full, removing) -> None:
    with pytest.raises(NotFoundError, match="boolq"):
        removing(full, "bolq")


def test_nothing_is_purged_while_no_task_is_removed(full) -> None:
    purge = full.purgeable()
    assert (purge.tasks, purge.digests, purge.in_use) == ((), (), ())


def test_files_that_an_alias_still_needs_are_not_purged(full, removing) -> None:
    removing(full, "boolq")
    purge = full.purgeable()
    assert purge.tasks == ()
    assert purge.in_use == (("boolq", ("active", "stable")),)
    full.commit_router(**router_parts(full))  # moves active
    assert full.purgeable().in_use == (("boolq", ("stable",)),)


@pytest.fixture
def purged(full, removing):
    removing(full, "boolq")
    full.commit_router(**router_parts(full))
    full.set_alias("stable", "active", "test")
    purge = full.purgeable()
    full.commit_purge(purge, purge_run(purge))
    return full, purge


def test_purging_takes_weights_features_and_evidence_of_all_versions(purged) -> None:
    registry, purge = purged
    assert purge.tasks == ("boolq",)
    assert purge.experts == ("boolq@1", "boolq@2")
    assert purge.routers == (1, 2)
    own = {sha("boolq@1"), sha("features boolq@1"), sha("oracle boolq@1"), sha("boolq@2")}
    assert own <= set(purge.digests)
    alive = {a.digest for a in registry.artifacts() if a.purged_at is None}
    assert not alive & set(purge.digests)
    assert {sha("sst2@1"), sha("features sst2@1"), sha("oracle sst2@1")} <= alive
    with pytest.raises(NotFoundError, match="no cached features"):
        registry.feature_set("boolq@1")
    assert registry.check() == ()


def test_a_second_purge_has_nothing_to_do(purged) -> None:
    registry, _ = purged
    again = registry.purgeable()
    assert (again.tasks, again.digests, again.routers) == ((), (), ())


def test_no_alias_can_be_pointed_at_a_router_whose_experts_were_purged(purged) -> None:
    registry, _ = purged
    aliases = registry.aliases()
    with pytest.raises(NotFoundError, match=r"router@1 cannot be used again.*boolq@1"):
        registry.set_alias("active", 1, "test")
    with pytest.raises(NotFoundError, match="boolq@2"):
        registry.set_alias("fresh", 2, "test")
    assert registry.aliases() == aliases


def test_history_tells_of_a_purge(purged) -> None:
    registry, _ = purged
    assert [e.subject for e in registry.history() if e.kind == "task-purged"] == ["boolq"]


def test_a_file_that_a_living_task_shares_is_not_purged(full, removing) -> None:
    parts = expert_parts("twin")
    shared = sha("oracle boolq@1")
    parts["evaluations"] = [replace(parts["evaluations"][0], artifact_digest=shared)]
    full.commit_expert(**parts)
    removing(full, "boolq")
    full.commit_router(**router_parts(full))
    full.set_alias("stable", "active", "test")
    purge = full.purgeable()
    assert purge.tasks == ("boolq",)
    assert shared not in purge.digests
    full.commit_purge(purge, purge_run(purge))
    assert full.artifact(shared).purged_at is None


def test_a_task_that_came_back_meanwhile_stops_its_purge(full, removing) -> None:
    removing(full, "boolq")
    full.commit_router(**router_parts(full))
    full.set_alias("stable", "active", "test")
    purge = full.purgeable()
    full.commit_expert(**expert_parts("boolq", 3))
    before = full.artifacts()
    with pytest.raises(StaleError):
        full.commit_purge(purge, purge_run(purge))
    assert full.artifacts() == before


def test_the_last_task_can_be_purged_although_the_old_router_is_active(empty, removing) -> None:
    empty.commit_expert(**expert_parts("boolq"))
    empty.commit_router(**router_parts(empty))
    removing(empty, "boolq")
    assert empty.purgeable().tasks == ("boolq",)
