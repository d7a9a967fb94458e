"""What a registry promises of groups: those of tasks may change, those of routers never do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from expertbank.errors import InputError, IntegrityError, NotFoundError, StaleError
from expertbank.registry.registry import Registry
from expertbank.testing.bank_rows import expert_parts, known, router_parts, run


def groups(registry: Registry) -> dict[str, str | None]:
    """The group of every task, removed ones too."""
    return {task.name: task.group for task in registry.tasks(include_removed=True)}


class GroupPromises:
    """Tests that ``RegistryConformance`` runs."""

    def test_tasks_can_be_put_into_a_group_and_taken_out_again(self, full: Registry) -> None:
        before = full.set_group(["boolq", "sst2"], "reading", run("group"))
        assert [(task.name, task.group) for task in before] == [("boolq", None), ("sst2", None)]
        assert groups(full) == {"boolq": "reading", "sst2": "reading"}
        full.set_group(["sst2"], "moods", run("group"))
        full.set_group(["boolq"], None, run("group"))
        assert groups(full) == {"boolq": None, "sst2": "moods"}
        assert full.check() == ()

    def test_a_change_of_groups_touches_no_expert_and_no_router(self, full: Registry) -> None:
        before = full.experts(), full.routers(), full.evaluations(), full.artifacts()
        full.set_group(["boolq", "sst2"], "reading", run("group"))
        assert (full.experts(), full.routers(), full.evaluations(), full.artifacts()) == before

    def test_a_router_keeps_the_groups_that_it_was_fitted_with(self, full: Registry) -> None:
        full.set_group(["boolq", "sst2"], "reading", run("group"))
        together = full.commit_router(**router_parts(full))
        assert together.groups == {"reading": ("boolq", "sst2")}
        assert together.group_of == {"boolq": "reading", "sst2": "reading"}
        full.set_group(["sst2"], "moods", run("group"))
        apart = full.commit_router(**router_parts(full))
        assert apart.groups == {"moods": ("sst2",), "reading": ("boolq",)}
        assert full.router(together.version) == together
        assert [router.groups for router in full.routers()] == [
            {},
            {},
            together.groups,
            apart.groups,
        ]

    def test_every_change_is_kept_with_where_each_task_was(self, full: Registry) -> None:
        full.set_group(["boolq"], "reading", run("group"))
        full.set_group(["boolq", "sst2"], "texts", run("group"))
        full.set_group(["sst2"], None, run("group"))
        told = [event for event in full.history() if event.kind == "task-grouped"]
        assert [(event.subject, event.text) for event in told] == [
            ("boolq", "task boolq put into group reading"),
            ("boolq", "task boolq put into group texts, out of group reading"),
            ("sst2", "task sst2 put into group texts"),
            ("sst2", "task sst2 taken out of group texts"),
        ]

    def test_what_is_so_already_writes_nothing(self, full: Registry) -> None:
        full.set_group(["boolq"], "reading", run("group"))
        before = known(full)
        full.set_group(["boolq"], "reading", run("group"))
        full.set_group(["sst2"], None, run("group"))
        assert known(full) == before

    def test_an_unknown_task_is_not_found_and_none_is_moved(self, full: Registry) -> None:
        before = known(full)
        with pytest.raises(NotFoundError, match="did you mean sst2"):
            full.set_group(["boolq", "sst"], "reading", run("group"))
        assert known(full) == before

    def test_a_router_that_was_fitted_before_a_change_of_groups_is_stale(
        self, full: Registry
    ) -> None:
        parts = router_parts(full, "late")
        full.set_group(["boolq", "sst2"], "reading", run("group"))
        with pytest.raises(StaleError, match="retrain-router"):
            full.commit_router(**parts)

    def test_two_routers_of_one_digest_have_the_same_groups(self, full: Registry) -> None:
        parts = router_parts(full, "same")
        full.commit_router(**parts)
        router = replace(parts["router"], groups={"reading": ("boolq", "sst2")})
        with pytest.raises(IntegrityError, match="groups"):
            full.commit_router(**{**parts, "router": router})

    def test_a_removed_task_comes_back_into_its_group(self, full: Registry) -> None:
        full.set_group(["boolq"], "reading", run("group"))
        full.remove_task("boolq", run("remove", task="boolq"))
        full.commit_expert(**expert_parts("boolq", 3))
        assert groups(full)["boolq"] == "reading"

    @pytest.mark.parametrize(
        ("task", "stands"), [("mood", "is in group tickets"), ("poll", "stands alone")]
    )
    def test_a_new_version_cannot_change_the_group_and_says_what_can(
        self, empty: Registry, task: str, stands: str
    ) -> None:
        empty.commit_expert(**expert_parts("mood", group="tickets"))
        empty.commit_expert(**expert_parts("poll"))
        with pytest.raises(InputError, match=f"{task} {stands}.*expertbank group other {task}"):
            empty.commit_expert(**expert_parts(task, 2, group="other"))
        assert empty.next_version(task) == 2
