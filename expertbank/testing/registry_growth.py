"""What a registry promises of measurements that changed or not, and of routers it forgets."""

from __future__ import annotations

from typing import Any

import pytest

from expertbank.errors import NotFoundError, StaleError
from expertbank.records import EvaluationRecord, Forgetting, RouterRecord
from expertbank.registry.registry import Registry
from expertbank.testing.bank_rows import artifact, expert_parts, known, router_parts, run, sha


def routed(registry: Registry, text: str, **choices: str) -> dict[str, Any]:
    """Arguments of ``commit_router``; ``choices`` say by task what was chosen for its rows."""
    parts = router_parts(registry, text)
    names = {expert.task: expert.id for expert in registry.members()}
    parts["evaluations"] = [
        EvaluationRecord(names[task], 10, 8, sha(said), {}, {}) for task, said in choices.items()
    ]
    files = [artifact(said, "routed") for said in choices.values()]
    return {**parts, "artifacts": [artifact(text, "router"), *files]}


def forget(registry: Registry, keep: int) -> Forgetting:
    """Let go of what may go as ``expertbank gc --keep-routers`` does."""
    found = registry.forgettable(keep)
    config = {"keep": found.keep, "routers": list(found.routers)}
    registry.commit_forgetting(found, run("forget-routers", **config))
    return found


def under(registry: Registry, version: int) -> dict[str, str]:
    """By expert the file of what it was measured under a router."""
    found = registry.evaluations(router_version=version)
    return {record.expert_id: record.artifact_digest for record in found}


def there(registry: Registry) -> set[str]:
    """Digests of the files that are not deleted."""
    return {file.digest for file in registry.artifacts() if file.purged_at is None}


class GrowthPromises:
    """Tests that ``RegistryConformance`` runs."""

    @pytest.fixture
    def grown(self, empty: Registry) -> Registry:
        """Five routers: boolq's choices change at the third; sst2 comes second, changes fourth."""
        empty.commit_expert(**expert_parts("boolq"))
        empty.commit_router(**routed(empty, "one", boolq="home"))
        empty.commit_expert(**expert_parts("sst2"))
        empty.commit_router(**routed(empty, "two", boolq="home", sst2="own"))
        empty.commit_router(**routed(empty, "three", boolq="away", sst2="own"))
        empty.commit_router(**routed(empty, "four", boolq="away", sst2="lost"))
        empty.commit_router(**routed(empty, "five", boolq="away", sst2="lost"))
        return empty

    def test_a_measurement_is_stored_where_it_changed(self, grown: Registry) -> None:
        stored = [
            (e.expert_id, e.router_version) for e in grown.evaluations(router_version="routed")
        ]
        assert stored == [("boolq@1", 1), ("sst2@1", 2), ("boolq@1", 3), ("sst2@1", 4)]

    def test_what_holds_for_a_router_is_the_newest_that_is_not_later(self, grown: Registry) -> None:
        home, away, own, lost = (sha(said) for said in ("home", "away", "own", "lost"))
        assert under(grown, 1) == {"boolq@1": home}
        assert under(grown, 2) == {"boolq@1": home, "sst2@1": own}
        assert under(grown, 3) == {"boolq@1": away, "sst2@1": own}
        assert under(grown, 5) == {"boolq@1": away, "sst2@1": lost}
        assert under(grown, 6) == {}
        (one,) = grown.evaluations("sst2@1", router_version=3)
        assert (one.router_version, one.artifact_digest) == (2, own)

    def test_the_last_measurements_are_every_experts_newest(self, grown: Registry) -> None:
        last = {e.expert_id: e.router_version for e in grown.evaluations(router_version="last")}
        assert last == {"boolq@1": 3, "sst2@1": 4}

    def test_choices_that_come_back_are_stored_again_in_the_file_that_is_there(
        self, grown: Registry
    ) -> None:
        before = len(grown.artifacts())
        grown.commit_router(**routed(grown, "six", boolq="home", sst2="lost"))
        assert under(grown, 6) == {"boolq@1": sha("home"), "sst2@1": sha("lost")}
        assert grown.evaluations(router_version="routed")[-1].router_version == 6
        assert len(grown.artifacts()) == before + 1, "the gate"

    def test_a_router_that_does_not_contain_an_expert_measures_nothing_of_it(
        self, grown: Registry
    ) -> None:
        grown.remove_task("boolq", run("remove", task="boolq"))
        grown.commit_router(**routed(grown, "alone", sst2="lost"))
        assert under(grown, 6) == {"sst2@1": sha("lost")}

    def test_forgetting_takes_old_gates_and_choices_that_nothing_kept_rests_on(
        self, grown: Registry
    ) -> None:
        grown.commit_router(**routed(grown, "six", boolq="else", sst2="lost"))
        gone = forget(grown, 1)
        assert gone.routers == (1, 2, 3, 4, 5)
        assert set(gone.digests) == {
            sha(gate) for gate in ("one", "two", "three", "four", "five")
        } | {sha("away")}
        assert not there(grown) & set(gone.digests)
        assert {sha("home"), sha("own")} <= there(grown), "the first choices stay"
        assert under(grown, 6) == {"boolq@1": sha("else"), "sst2@1": sha("lost")}
        assert {sha("else"), sha("lost"), sha("six")} <= there(grown)
        assert grown.check() == ()

    def test_rows_of_forgotten_routers_stay_and_say_so(self, grown: Registry) -> None:
        routers, evaluations = grown.routers(), grown.evaluations()
        forget(grown, 2)
        assert [r.forgotten_at is not None for r in grown.routers()] == [True] * 3 + [False] * 2
        assert [r.members for r in grown.routers()] == [r.members for r in routers]
        assert grown.evaluations() == evaluations
        assert grown.router("router@2").forgotten_at is not None
        events = [e.subject for e in grown.history() if e.kind == "router-forgotten"]
        assert events == ["router@1", "router@2", "router@3"]

    def test_a_router_that_an_alias_names_is_kept_with_what_it_rests_on(
        self, grown: Registry
    ) -> None:
        grown.set_alias("stable", 3, "known good")
        gone = forget(grown, 1)
        assert gone.routers == (1, 2, 4)
        assert gone.in_use == ((3, ("stable",)),)
        assert set(under(grown, 3).values()) | {sha("three")} <= there(grown)

    def test_forgetting_again_or_more_than_there_are_finds_nothing(self, grown: Registry) -> None:
        assert grown.forgettable(5) == Forgetting(5)
        assert grown.forgettable(1000) == Forgetting(1000)
        forget(grown, 2)
        assert grown.forgettable(2) == Forgetting(2)

    def test_no_alias_can_be_pointed_at_a_forgotten_router(self, grown: Registry) -> None:
        forget(grown, 2)
        before = known(grown)
        with pytest.raises(NotFoundError, match=r"router@1 was forgotten.*retrain-router"):
            grown.set_alias("active", 1, "back")
        assert known(grown) == before

    def test_a_router_that_came_meanwhile_stops_the_forgetting(self, grown: Registry) -> None:
        planned = grown.forgettable(2)
        grown.commit_router(**routed(grown, "six", boolq="away", sst2="lost"))
        before = known(grown)
        with pytest.raises(StaleError, match="gc again"):
            grown.commit_forgetting(planned, run("forget-routers", keep=2, routers=[]))
        assert known(grown) == before

    def test_a_forgotten_router_that_is_trained_again_is_kept_again(self, grown: Registry) -> None:
        forget(grown, 1)
        parts = routed(grown, "three", boolq="away", sst2="own")
        router: RouterRecord = grown.commit_router(**parts)
        assert (router.version, router.forgotten_at) == (3, None)
        assert grown.router().version == 3
        assert set(under(grown, 3).values()) <= there(grown)
        assert len(grown.evaluations(router_version="routed")) == 4, "it was measured so before"
        assert grown.check() == ()

    def test_a_forgotten_router_that_is_measured_otherwise_now_has_the_new_measurements(
        self, grown: Registry
    ) -> None:
        forget(grown, 1)
        grown.commit_router(**routed(grown, "three", boolq="away, written anew", sst2="own"))
        assert under(grown, 3) == {"boolq@1": sha("away, written anew"), "sst2@1": sha("own")}
        assert under(grown, 2)["boolq@1"] == sha("home")
