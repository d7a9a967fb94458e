"""What a registry promises of its backbone, of tasks and of experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from expertbank.errors import (
    ExistsError,
    ExpertBankError,
    FeatureSpecError,
    InputError,
    IntegrityError,
    NotFoundError,
)
from expertbank.registry.registry import Registry
from expertbank.testing.bank_rows import BACKBONE, SPEC, artifact, expert_parts, known, run, sha


class ExpertPromises:
    """Tests that ``RegistryConformance`` runs."""

    def test_a_fresh_registry_has_no_backbone_and_refuses_experts(self, fresh: Registry) -> None:
        assert fresh.backbone() is None
        with pytest.raises(ExpertBankError, match="expertbank init"):
            fresh.commit_expert(**expert_parts("boolq"))

    def test_the_same_backbone_may_be_set_twice(self, empty: Registry) -> None:
        assert not empty.has_members()
        assert empty.set_backbone(BACKBONE) == empty.backbone() == BACKBONE

    def test_another_backbone_is_refused_and_both_digests_are_named(self, empty: Registry) -> None:
        other = replace(BACKBONE, digest=sha("other"))
        with pytest.raises(IntegrityError) as caught:
            empty.set_backbone(other)
        assert BACKBONE.digest in str(caught.value)
        assert other.digest in str(caught.value)

    def test_another_feature_spec_is_refused_and_the_fields_are_named(
        self, empty: Registry
    ) -> None:
        spec = replace(SPEC, route_layer=3, max_length=64)
        with pytest.raises(FeatureSpecError) as caught:
            empty.set_backbone(replace(BACKBONE, feature_spec=spec))
        assert "route_layer is 2, asked for 3" in str(caught.value)
        assert "max_length is 256, asked for 64" in str(caught.value)
        assert "dtype" not in str(caught.value)

    def test_an_expert_is_stored_whole(self, empty: Registry) -> None:
        parts = expert_parts("boolq")
        expert = empty.commit_expert(**parts)
        assert expert == replace(
            parts["expert"], run_id=expert.run_id, created_at=expert.created_at
        )
        assert expert.created_at.endswith("+00:00")
        assert empty.expert("boolq") == expert
        assert empty.tasks() == (parts["task"],)
        assert empty.feature_set("boolq@1") == parts["features"]
        assert empty.statistics() == (parts["statistics"],)
        assert expert.run_id is not None
        made_by = empty.run(expert.run_id)
        assert replace(made_by, id=None, created_at="") == parts["run"]
        assert {a.digest for a in empty.artifacts()} == {a.digest for a in parts["artifacts"]}
        (evaluation,) = empty.evaluations("boolq@1", router_version="oracle")
        assert replace(evaluation, id=None, created_at="") == parts["evaluations"][0]

    def test_the_same_version_again_is_refused_and_nothing_is_written(
        self, empty: Registry
    ) -> None:
        empty.commit_expert(**expert_parts("boolq"))
        before = known(empty)
        with pytest.raises(ExistsError, match="--new-version"):
            empty.commit_expert(**expert_parts("boolq", digest=sha("else")))
        assert known(empty) == before

    def test_a_new_version_keeps_its_own_labels_and_the_task_keeps_its_row(
        self, empty: Registry
    ) -> None:
        empty.commit_expert(**expert_parts("boolq"))
        assert empty.next_version("boolq") == 2
        empty.commit_expert(**expert_parts("boolq", 2, labels=("a", "b", "c")))
        assert empty.expert("boolq").labels == ("a", "b", "c")
        assert empty.expert("boolq@1").labels == ("no", "yes")
        assert empty.task("boolq").labels == ("no", "yes")
        assert [expert.id for expert in empty.experts("boolq")] == ["boolq@1", "boolq@2"]
        assert empty.next_version("new") == 1

    def test_a_new_version_of_another_kind_is_refused(self, empty: Registry) -> None:
        empty.commit_expert(**expert_parts("boolq"))
        with pytest.raises(InputError, match="registered as classification"):
            empty.commit_expert(**expert_parts("boolq", 2, kind="regression"))

    def test_experts_with_equal_bytes_share_their_artifact(self, empty: Registry) -> None:
        empty.commit_expert(**expert_parts("a", digest=sha("same")))
        empty.commit_expert(**expert_parts("b", digest=sha("same")))
        assert [a.digest for a in empty.artifacts()].count(sha("same")) == 1
        with pytest.raises(InputError, match=r"ambiguous: a@1, b@1"):
            empty.expert(sha("same")[:10])

    def test_an_expert_without_its_artifact_is_refused(self, empty: Registry) -> None:
        parts = expert_parts("boolq")
        parts["artifacts"] = [artifact("unrelated")]
        before = known(empty)
        with pytest.raises(IntegrityError, match="not registered"):
            empty.commit_expert(**parts)
        assert known(empty) == before

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            (lambda p: {"run": replace(p["run"], backbone_digest=sha("x"))}, IntegrityError),
            (
                lambda p: {"features": replace(p["features"], feature_spec_digest=sha("x"))},
                FeatureSpecError,
            ),
            (lambda p: {"features": replace(p["features"], expert_id="other@1")}, InputError),
            (
                lambda p: {"evaluations": [replace(p["evaluations"][0], router_version=1)]},
                InputError,
            ),
        ],
        ids=["backbone", "feature spec", "another expert's features", "routed evaluation"],
    )
    def test_records_that_do_not_fit_are_refused(
        self,
        empty: Registry,
        change: Callable[[dict[str, Any]], dict[str, Any]],
        error: type[ExpertBankError],
    ) -> None:
        parts, before = expert_parts("boolq"), known(empty)
        with pytest.raises(error):
            empty.commit_expert(**{**parts, **change(parts)})
        assert known(empty) == before

    def test_an_expert_is_found_by_task_version_and_digest(self, full: Registry) -> None:
        assert full.expert("boolq").version == 2
        assert full.expert("boolq@1").version == 1
        assert full.expert(sha("boolq@1")[:6]).id == "boolq@1"
        assert full.expert(sha("boolq@1")).id == "boolq@1"

    def test_a_task_named_like_a_digest_is_found_by_its_name(self, empty: Registry) -> None:
        empty.commit_expert(**expert_parts("facade", digest="bead" * 16))
        empty.commit_expert(**expert_parts("other", digest="facade" + "0" * 58))
        assert empty.expert("facade").task == "facade"
        assert empty.expert("facade0").task == "other"

    @pytest.mark.parametrize("reference", ["boolqq", "boolq@9", "abcdef", "12345", "", "@1"])
    def test_an_unknown_expert_is_not_found(self, full: Registry, reference: str) -> None:
        with pytest.raises(NotFoundError):
            full.expert(reference)

    def test_an_unknown_task_error_names_near_ones(self, full: Registry) -> None:
        with pytest.raises(NotFoundError, match="did you mean boolq"):
            full.task("bolq")
        with pytest.raises(NotFoundError, match="did you mean boolq"):
            full.experts("bolq")

    def test_members_are_the_newest_version_of_each_live_task_by_name(self, full: Registry) -> None:
        assert [expert.id for expert in full.members()] == ["boolq@2", "sst2@1"]

    def test_a_removed_task_is_no_member_and_returns_with_its_next_version(
        self, full: Registry
    ) -> None:
        before = full.generation()
        full.remove_task("boolq", run("remove", task="boolq"))
        assert full.generation() == before + 1
        assert [expert.id for expert in full.members()] == ["sst2@1"]
        assert full.member_tasks() == ("sst2",)
        with pytest.raises(NotFoundError, match="was removed"):
            full.member("boolq")
        assert [task.name for task in full.tasks()] == ["sst2"]
        assert [task.name for task in full.tasks(include_removed=True)] == ["boolq", "sst2"]
        full.commit_expert(**expert_parts("boolq", 3))
        assert full.generation() == before + 2
        assert [expert.id for expert in full.members()] == ["boolq@3", "sst2@1"]

    def test_a_member_is_found_alone_as_among_all(self, full: Registry) -> None:
        assert full.has_members()
        assert tuple(full.member(task) for task in full.member_tasks()) == full.members()
        with pytest.raises(NotFoundError, match="did you mean boolq"):
            full.member("bolq")

    def test_an_expert_is_asked_for_its_own_features_and_evaluations(self, full: Registry) -> None:
        stored = [full.feature_set(expert.id) for expert in full.experts()]
        assert tuple(stored) == full.feature_sets()
        with pytest.raises(NotFoundError):
            full.evaluations("bolq")

    def test_the_generation_grows_with_every_expert(self, empty: Registry) -> None:
        seen = [empty.generation()]
        for task, version in [("a", 1), ("b", 1), ("a", 2)]:
            empty.commit_expert(**expert_parts(task, version))
            seen.append(empty.generation())
        assert seen == [0, 1, 2, 3]

    def test_missing_lineage_is_not_found(self, full: Registry) -> None:
        with pytest.raises(NotFoundError):
            full.run(99)

    def test_a_purged_artifact_is_alive_again_when_its_bytes_return(self, empty: Registry) -> None:
        def purged_at() -> str | None:
            return {file.digest: file.purged_at for file in empty.artifacts()}[sha("same")]

        empty.commit_expert(**expert_parts("a", digest=sha("same")))
        empty.remove_task("a", run("remove", task="a"))
        empty.commit_purge(empty.purgeable(), run("purge", tasks=["a"]))
        assert purged_at() is not None
        empty.commit_expert(**expert_parts("b", digest=sha("same")))
        assert purged_at() is None

    def test_a_task_keeps_its_group_through_versions(self, empty: Registry) -> None:
        empty.commit_expert(**expert_parts("mood", group="tickets"))
        empty.commit_expert(**expert_parts("poll"))
        empty.commit_expert(**expert_parts("mood", 2, group="tickets"))
        empty.commit_expert(**expert_parts("mood", 3))
        assert {task.name: task.group for task in empty.tasks()} == {
            "mood": "tickets",
            "poll": None,
        }

    def test_statistics_come_later_to_experts_that_have_none(self, empty: Registry) -> None:
        parts = expert_parts("boolq")
        own, file = parts.pop("statistics"), artifact("statistics boolq@1", "statistics")
        empty.commit_expert(**parts)
        assert empty.statistics() == ()
        with pytest.raises(FeatureSpecError):
            empty.add_statistics([replace(own, feature_spec_digest=sha("other"))], [file])
        with pytest.raises(NotFoundError):
            empty.add_statistics([replace(own, expert_id="bolq@1")], [file])
        assert empty.statistics() == ()
        for _ in range(2):
            empty.add_statistics([own], [file])
            assert empty.statistics() == (own,)
        assert empty.check() == ()
        assert empty.generation() == 1, "the members are what they were"

    def test_statistics_of_what_was_purged_meanwhile_are_left_out(self, empty: Registry) -> None:
        parts = expert_parts("boolq")
        own, file = parts.pop("statistics"), artifact("statistics boolq@1", "statistics")
        empty.commit_expert(**parts)
        empty.remove_task("boolq", run("remove", task="boolq"))
        empty.commit_purge(empty.purgeable(), run("purge", tasks=["boolq"]))
        before = known(empty)
        empty.add_statistics([own], [file])
        assert known(empty) == before

    def test_statistics_of_another_feature_spec_are_refused_with_their_expert(
        self, empty: Registry
    ) -> None:
        parts = expert_parts("boolq")
        parts["statistics"] = replace(parts["statistics"], feature_spec_digest=sha("other"))
        with pytest.raises(FeatureSpecError):
            empty.commit_expert(**parts)
        assert empty.experts() == ()
