"""What a registry promises of routers, aliases, exports and its history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from expertbank.errors import (
    FeatureSpecError,
    InputError,
    IntegrityError,
    NotFoundError,
    StaleError,
)
from expertbank.records import AliasRecord, ExportRecord
from expertbank.registry.registry import Registry, RegistryLocation
from expertbank.testing.bank_rows import (
    SPEC,
    artifact,
    expert_parts,
    fill,
    known,
    router_parts,
    sha,
)


class RouterPromises:
    """Tests that ``RegistryConformance`` runs."""

    def test_versions_are_given_by_the_registry(self, full: Registry) -> None:
        parts = router_parts(full, "third")
        parts["router"] = replace(parts["router"], version=77)
        assert full.commit_router(**parts).version == 3
        assert [router.version for router in full.routers()] == [1, 2, 3]

    def test_a_router_pins_its_members_in_gate_order(self, full: Registry) -> None:
        parts = router_parts(full, "turned", members=("sst2@1", "boolq@1"))
        router = full.commit_router(**{**parts, "evaluations": []})
        assert router.members == ("sst2@1", "boolq@1")
        assert full.router(router.version) == router
        assert full.router(1).members == ("boolq@1", "sst2@1")

    def test_a_router_trained_on_an_older_generation_is_stale_and_leaves_nothing(
        self, full: Registry
    ) -> None:
        parts = router_parts(full, "late")
        full.commit_expert(**expert_parts("late"))
        before = known(full)
        with pytest.raises(StaleError, match="retrain-router"):
            full.commit_router(**parts)
        assert known(full) == before

    def test_a_router_trained_elsewhere_on_other_experts_is_stale_at_the_same_generation(
        self, full: Registry, somewhere: Callable[[], RegistryLocation]
    ) -> None:
        # Backed up here; sick came in and a router is being trained on it; then the backup is put
        # back and another sick added: ids and generation are the same again.
        backup = somewhere().open()
        fill(backup)
        full.commit_expert(**expert_parts("sick"))
        digests = {expert.id: expert.digest for expert in full.members()}
        parts = {**router_parts(full, "trained elsewhere"), "members": digests}
        backup.commit_expert(**expert_parts("sick", digest=sha("sick, trained again")))
        assert backup.generation() == full.generation()
        assert {e.id for e in backup.members()} == set(digests)
        before = known(backup)
        with pytest.raises(StaleError, match=r"sick@1.*retrain-router"):
            backup.commit_router(**parts)
        assert known(backup) == before
        assert full.commit_router(**parts).members == tuple(e.id for e in full.members())

    def test_the_same_router_again_is_the_one_that_exists(self, full: Registry) -> None:
        before = known(full)
        assert full.commit_router(**router_parts(full)).version == 2
        assert known(full) == before

    def test_the_same_router_again_takes_back_the_active_alias(self, full: Registry) -> None:
        full.set_alias("active", 1, "rollback")
        full.commit_router(**{**router_parts(full), "activate": False})
        assert full.router("active").version == 1
        full.commit_router(**{**router_parts(full), "reason": "again"})
        assert full.router("active").version == 2
        assert full.alias_events("active")[-1].reason == "again"

    def test_equal_digest_with_other_members_is_refused(self, full: Registry) -> None:
        parts = router_parts(full, members=("sst2@1", "boolq@2"))
        parts["router"] = replace(parts["router"], digest=full.router(2).digest)
        with pytest.raises(IntegrityError, match="must cover its members"):
            full.commit_router(**parts)

    def test_a_router_is_not_activated_unless_asked(self, full: Registry) -> None:
        full.commit_router(**{**router_parts(full, "quiet"), "activate": False})
        assert full.router().version == 2

    def test_a_router_over_an_unknown_expert_is_refused(self, full: Registry) -> None:
        with pytest.raises(NotFoundError, match="sst2@8"):
            full.commit_router(**router_parts(full, "x", members=("sst2@8",)))
        assert len(full.routers()) == 2

    def test_a_router_of_another_feature_spec_is_refused(self, full: Registry) -> None:
        spec = replace(SPEC, max_length=64)
        with pytest.raises(FeatureSpecError):
            full.commit_router(**router_parts(full, "x", feature_spec_digest=spec.digest))

    def test_routed_evaluations_carry_the_router_version(self, full: Registry) -> None:
        routed = full.evaluations(router_version="routed")
        assert {e.router_version for e in routed} == {1, 2}
        assert [e.expert_id for e in full.evaluations(router_version=2)] == ["boolq@2", "sst2@1"]
        assert len(full.evaluations(router_version="oracle")) == 3
        assert len(full.evaluations()) == 3 + len(routed)
        assert {e.router_version for e in full.evaluations("sst2@1")} == {None, 1, 2}

    @pytest.mark.parametrize("reference", [1, "1", "router@1", "stable", None])
    def test_a_router_is_found_by_every_name(
        self, full: Registry, reference: str | int | None
    ) -> None:
        digest = full.routers()[0].digest
        assert full.router(reference or digest[:8]).version == 1

    def test_digits_of_several_routers_are_refused_and_more_digits_tell_them_apart(
        self, full: Registry
    ) -> None:
        for end in "ab":
            full.commit_router(**router_parts(full, end, digest="123456" + end * 58))
        with pytest.raises(InputError, match=r"ambiguous: router@3, router@4"):
            full.router("123456")
        assert full.router("123456b").version == 4

    @pytest.mark.parametrize(
        "reference", [9, "9", "router@9", "nothing", "abcdef123", "active@1", "1" * 5000, ""]
    )
    def test_an_unknown_router_is_not_found(self, full: Registry, reference: str | int) -> None:
        with pytest.raises(NotFoundError):
            full.router(reference)

    def test_a_bank_without_router_says_how_to_make_one(self, empty: Registry) -> None:
        with pytest.raises(NotFoundError, match="expertbank retrain-router"):
            empty.router()

    def test_aliases_move_and_every_move_is_kept(self, full: Registry) -> None:
        assert full.set_alias("prod", "router@1", "first") == AliasRecord("prod", 1)
        full.set_alias("prod", "active", "second")
        full.set_alias("prod", 2, "no move, no event")
        events = [
            (e.previous_version, e.router_version, e.reason) for e in full.alias_events("prod")
        ]
        assert events == [(None, 1, "first"), (1, 2, "second")]
        assert AliasRecord("prod", 2) in full.aliases()

    @pytest.mark.parametrize(
        "name", ["", "A", "-a", "a b", "a" * 65, "../x", "é", "12", "a\n", "a;b"]
    )
    def test_an_alias_that_could_be_misread_is_refused(self, full: Registry, name: str) -> None:
        with pytest.raises(InputError, match="not usable"):
            full.set_alias(name, 1, "")

    def test_an_alias_cannot_be_pointed_at_what_is_not_there(self, full: Registry) -> None:
        before = known(full)
        with pytest.raises(NotFoundError, match=r"router@9"):
            full.set_alias("prod", "router@9", "")
        assert known(full) == before

    def test_an_export_is_kept(self, full: Registry) -> None:
        record = ExportRecord(sha("b2"), "peft", "dir/ü", 1, ("boolq@1",))
        kept = full.commit_export(record)
        assert replace(kept, id=None, created_at="") == record
        told = full.history()[-1]
        assert (told.at, told.kind, told.subject) == (kept.created_at, "exported", "dir/ü")
        with pytest.raises(NotFoundError):
            full.commit_export(replace(record, router_version=9))

    def test_history_tells_everything_in_order(self, full: Registry) -> None:
        events = full.history()
        assert [(e.kind, e.subject) for e in events] == [
            ("expert-added", "boolq@1"),
            ("expert-added", "sst2@1"),
            ("router-trained", "router@1"),
            ("alias-moved", "active"),
            ("expert-added", "boolq@2"),
            ("router-trained", "router@2"),
            ("alias-moved", "active"),
            ("alias-moved", "stable"),
            ("exported", "out"),
        ]
        assert [e.at for e in events] == sorted(e.at for e in events)
        assert "moved from router@1 to router@2" in events[6].text

    def test_history_keeps_a_sentence_about_many_experts_short(self, empty: Registry) -> None:
        for number in range(15):
            empty.commit_expert(**expert_parts(f"t{number:02}"))
        empty.commit_router(**router_parts(empty))
        (told,) = (event.text for event in empty.history() if event.kind == "router-trained")
        assert told.endswith("t10@1, t11@1 and 3 more")

    def test_a_router_may_bring_more_files_than_a_statement_takes_values(
        self, full: Registry
    ) -> None:
        parts = router_parts(full, "many files")
        parts["artifacts"] += [artifact(f"file {number}", "evaluation") for number in range(33_000)]
        parts["artifacts"].append(artifact("boolq@1"))
        full.commit_router(**parts)
        assert len(full.artifacts()) > 33_000
        assert full.router().metrics == parts["router"].metrics
