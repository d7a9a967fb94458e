"""What a registry promises of tombstones, and of letting go of what only removed tasks need."""

from __future__ import annotations

from dataclasses import replace

import pytest

from expertbank.errors import NotFoundError, StaleError
from expertbank.records import EvaluationRecord, Purge, TaskRecord
from expertbank.registry.registry import Registry
from expertbank.testing.bank_rows import artifact, expert_parts, known, router_parts, run, sha


def remove(registry: Registry, task: str) -> TaskRecord:
    """Remove a task as ``expertbank remove`` does."""
    return registry.remove_task(task, run("remove", task=task))


def purge(registry: Registry) -> Purge:
    """Let go of what may go as ``expertbank gc --purge-removed`` does."""
    found = registry.purgeable()
    registry.commit_purge(found, run("purge", tasks=list(found.tasks)))
    return found


class RemovalPromises:
    """Tests that ``RegistryConformance`` runs."""

    def test_a_removed_task_is_left_out_of_the_next_router_and_its_rows_stay(
        self, full: Registry
    ) -> None:
        experts = full.experts()
        generation = full.generation()
        assert remove(full, "boolq").removed_at is not None
        assert [expert.id for expert in full.members()] == ["sst2@1"]
        assert full.experts() == experts
        assert full.generation() == generation + 1
        assert full.commit_router(**router_parts(full)).members == ("sst2@1",)
        assert full.check() == ()

    def test_removing_twice_changes_nothing_the_second_time(self, full: Registry) -> None:
        first, before = remove(full, "boolq"), known(full)
        assert remove(full, "boolq") == full.task("boolq") == first
        assert known(full) == before

    def test_a_removal_makes_a_router_trained_before_it_stale(self, full: Registry) -> None:
        parts = router_parts(full, "trained before")
        remove(full, "boolq")
        with pytest.raises(StaleError):
            full.commit_router(**parts)

    def test_history_keeps_a_removal_also_when_the_task_comes_back(self, full: Registry) -> None:
        remove(full, "boolq")
        full.commit_expert(**expert_parts("boolq", 3))
        assert full.task("boolq").removed_at is None
        assert [e.subject for e in full.history() if e.kind == "task-removed"] == ["boolq"]

    def test_removing_an_unknown_task_names_near_ones(self, full: Registry) -> None:
        with pytest.raises(NotFoundError, match="boolq"):
            remove(full, "bolq")

    def test_nothing_is_purged_while_no_task_is_removed(self, full: Registry) -> None:
        purge = full.purgeable()
        assert (purge.tasks, purge.digests, purge.in_use) == ((), (), ())

    def test_files_that_an_alias_still_needs_are_not_purged(self, full: Registry) -> None:
        remove(full, "boolq")
        purge = full.purgeable()
        assert purge.tasks == ()
        assert purge.in_use == (("boolq", ("active", "stable")),)
        full.commit_router(**router_parts(full))  # moves active
        assert full.purgeable().in_use == (("boolq", ("stable",)),)

    @pytest.fixture
    def purged(self, full: Registry) -> Purge:
        """What ``full`` let go of: no alias needs boolq any more."""
        remove(full, "boolq")
        full.commit_router(**router_parts(full))
        full.set_alias("stable", "active", "test")
        return purge(full)

    def test_purging_takes_weights_features_and_evidence_of_all_versions(
        self, full: Registry, purged: Purge
    ) -> None:
        assert purged.tasks == ("boolq",)
        assert purged.experts == ("boolq@1", "boolq@2")
        assert purged.routers == (1, 2)
        own = {sha(f"{what}boolq@1") for what in ("", "features ", "statistics ", "oracle ")}
        own.add(sha("boolq@2"))
        assert own <= set(purged.digests)
        alive = {a.digest for a in full.artifacts() if a.purged_at is None}
        assert not alive & set(purged.digests)
        own = {sha(f"{what}sst2@1") for what in ("", "features ", "statistics ", "oracle ")}
        assert own <= alive
        assert [one.expert_id for one in full.statistics()] == ["sst2@1"]
        with pytest.raises(NotFoundError, match="no cached features"):
            full.feature_set("boolq@1")
        assert full.check() == ()

    def test_a_second_purge_has_nothing_to_do(self, full: Registry, purged: Purge) -> None:
        again = full.purgeable()
        assert (again.tasks, again.digests, again.routers) == ((), (), ())

    def test_no_alias_can_be_pointed_at_a_router_whose_experts_were_purged(
        self, full: Registry, purged: Purge
    ) -> None:
        aliases = full.aliases()
        with pytest.raises(NotFoundError, match=r"router@1 cannot be used again.*boolq@1"):
            full.set_alias("active", 1, "test")
        with pytest.raises(NotFoundError, match="boolq@2"):
            full.set_alias("fresh", 2, "test")
        assert full.aliases() == aliases

    def test_history_tells_of_a_purge(self, full: Registry, purged: Purge) -> None:
        assert [e.subject for e in full.history() if e.kind == "task-purged"] == ["boolq"]

    def test_a_file_that_a_living_task_shares_is_not_purged(self, full: Registry) -> None:
        parts = expert_parts("twin")
        shared = sha("oracle boolq@1")
        parts["evaluations"] = [replace(parts["evaluations"][0], artifact_digest=shared)]
        full.commit_expert(**parts)
        remove(full, "boolq")
        full.commit_router(**router_parts(full))
        full.set_alias("stable", "active", "test")
        gone = purge(full)
        assert gone.tasks == ("boolq",)
        assert shared not in gone.digests
        assert {file.digest: file.purged_at for file in full.artifacts()}[shared] is None

    def test_a_task_that_came_back_meanwhile_stops_its_purge(self, full: Registry) -> None:
        remove(full, "boolq")
        full.commit_router(**router_parts(full))
        full.set_alias("stable", "active", "test")
        planned = full.purgeable()
        full.commit_expert(**expert_parts("boolq", 3))
        before = known(full)
        with pytest.raises(StaleError):
            full.commit_purge(planned, run("purge", tasks=list(planned.tasks)))
        assert known(full) == before

    def test_the_last_task_can_be_purged_although_the_old_router_is_active(
        self, empty: Registry
    ) -> None:
        empty.commit_expert(**expert_parts("boolq"))
        empty.commit_router(**router_parts(empty))
        remove(empty, "boolq")
        assert empty.purgeable().tasks == ("boolq",)

    def test_more_files_can_be_purged_than_a_statement_takes_values(self, empty: Registry) -> None:
        parts, count = expert_parts("boolq"), 33_000
        files = [artifact(f"answers {number}", "evaluation") for number in range(count)]
        parts["artifacts"] += files
        parts["evaluations"] += [
            EvaluationRecord("boolq@1", 10, 9, file.digest, {}, {}) for file in files
        ]
        empty.commit_expert(**parts)
        remove(empty, "boolq")
        assert len(purge(empty).digests) == count + 4
        assert not [file for file in empty.artifacts() if file.purged_at is None]
        assert empty.purgeable() == Purge()
