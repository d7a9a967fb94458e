"""A bank grows with what changes: unchanged choices store nothing, old routers can be forgotten."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from full_storage import as_before, every_choice
from small_bank import TASKS, add, content

from expertbank import Bank, RouterConfig
from expertbank.artifacts.local import LocalStore
from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import InputError, IntegrityError, NotFoundError
from expertbank.evaluation.evidence import RoutedEvidence, column_name, summary

NEARLY = RouterConfig.of_text("lda", ["ridge=0.0100001"])
OTHER = RouterConfig.of_text("ridge", ["ridge=0.02"])
"""A gate that chooses as the default one does for the rows of these tests, and one that does not
for some."""


def stored(bank: Bank) -> list[tuple[str, int | None]]:
    """Every routed measurement that has a row of its own."""
    rows = bank.registry.evaluations(router_version="routed")
    return [(row.expert_id, row.router_version) for row in rows]


def objects(home: Path) -> set[str]:
    return {path.stem for path in (home / "objects").rglob("*.safetensors")}


def full(home: Path) -> dict[tuple[int, str], bytes]:
    """What full storage would hold: every router's choices for every member, routed anew."""
    with Bank.open(home, read_only=True) as bank:
        groups = {task.name: task.group for task in bank.registry.tasks(include_removed=True)}
    found = {}
    for key, (one, router) in every_choice(home).items():
        firsts = [column[0].task for column in router.columns]
        names = [column_name(task, groups[task]) for task in firsts]
        found[key] = RoutedEvidence.of(names, one.choice).to_bytes()
    return found


def figures(bank: Bank, **options: Any) -> dict[str, Any]:
    """A report without the digests of files that were trained meanwhile."""
    document = bank.forgetting_report(**options).to_dict()
    return {name: value for name, value in document.items() if name != "lineage"}


@pytest.fixture
def grown(job: Path) -> Path:
    """The bank of three tasks with a router after each, and three more routers over all."""
    with Bank.open(job / "bank") as bank:
        for config in (NEARLY, OTHER, RouterConfig.of_text("lda", ["ridge=0.1"])):
            bank.retrain_router(config=config)
    return job / "bank"


# -- what is stored --------------------------------------------------------------------------


def test_what_holds_for_every_router_is_what_routing_the_cached_features_anew_gives(
    grown: Path,
) -> None:
    anew, store = full(grown), LocalStore(grown / "objects")
    with Bank.open(grown, read_only=True) as bank:
        for router in bank.routers():
            rows = bank.registry.evaluations(router_version=router.version)
            assert {row.expert_id for row in rows} == set(router.members)
            for row in rows:
                assert store.get(row.artifact_digest) == anew[router.version, row.expert_id]
        changed = [
            (name, version)
            for (version, name), data in anew.items()
            if anew.get((version - 1, name)) != data
        ]
        assert sorted(stored(bank)) == sorted(changed)
        assert len(TASKS) < len(changed) < len(anew), "some choices change here and some do not"


def test_unchanged_choices_store_nothing(job: Path) -> None:
    home = job / "bank"
    with Bank.open(home) as bank:
        rows, files, before = stored(bank), objects(home), bank.retrain_router()
        after = bank.retrain_router(config=NEARLY)
        assert after.router.version == before.router.version + 1
        assert after.metrics["calibration_error"] != before.metrics["calibration_error"]
        assert after.metrics["per_task"] == before.metrics["per_task"]
        assert stored(bank) == rows
        assert objects(home) - files == {after.router.digest}
        report = bank.forgetting_report(verify=True)
        assert report.matrix[-1] == report.matrix[-2]


def test_choices_that_changed_store_one_row_and_at_most_one_file_each(job: Path) -> None:
    home = job / "bank"
    with Bank.open(home) as bank:
        rows, files = stored(bank), objects(home)
        router = bank.retrain_router(config=OTHER).router
        anew, old = full(home), router.version - 1
        moved = [n for n in router.members if anew[router.version, n] != anew[old, n]]
        assert 0 < len(moved) < len(router.members)
        assert sorted(stored(bank)[len(rows) :]) == sorted((n, router.version) for n in moved)
        chosen = {sha256_bytes(anew[router.version, name]) for name in moved}
        assert objects(home) - files == {router.digest} | chosen - files


def test_a_routers_run_names_its_files_by_one_digest_and_rows_give_the_list(job: Path) -> None:
    with Bank.open(job / "bank", read_only=True) as bank:
        features = {one.expert_id: one.digest for one in bank.registry.feature_sets()}
        for router in bank.routers():
            assert router.run_id is not None
            rows = bank.registry.evaluations(router_version=router.version)
            assert bank.registry.run(router.run_id).data == {
                "features": summary({name: features[name] for name in router.members}),
                "evidence": summary({row.expert_id: row.artifact_digest for row in rows}),
            }


def test_a_bank_of_before_reports_the_same_and_goes_on(grown: Path, tmp_path: Path) -> None:
    old = shutil.copytree(grown, tmp_path / "old")
    as_before(old)
    assert len(objects(old)) > len(objects(grown))
    with Bank.open(grown) as bank, Bank.open(old) as before:
        assert before.verify().ok
        for options in ({}, {"from_router": 2, "to_router": 4}, {"verify": True}):
            assert figures(before, **options) == figures(bank, **options)
        assert before.retrain_router(activate=False).router.version == 3, "found, not made again"
        config = RouterConfig.of_text("lda", ["ridge=0.05"])
        for one in (bank, before):
            one.retrain_router(config=config)
        assert figures(before, verify=True) == figures(bank, verify=True)
        assert set(dict(stored(before)).values()) == {7}, (
            "in the new form once, whether or not they changed"
        )
        count = len(stored(before))
        before.retrain_router(config=RouterConfig.of_text("lda", ["ridge=0.0500001"]))
        assert len(stored(before)) == count
        assert before.verify().ok


# -- routers that are forgotten --------------------------------------------------------------


def test_a_forgotten_router_takes_its_gate_and_the_choices_that_only_it_rests_on(
    grown: Path,
) -> None:
    store = LocalStore(grown / "objects")
    with Bank.open(grown) as bank:
        rows, before = stored(bank), objects(grown)
        gates = {router.version: router.digest for router in bank.routers()}
        measured = {
            version: {
                row.artifact_digest for row in bank.registry.evaluations(router_version=version)
            }
            for version in gates
        }
        first: dict[str, str] = {}
        for row in bank.registry.evaluations(router_version="routed"):
            first.setdefault(row.expert_id, row.artifact_digest)
        done = bank.gc(keep_routers=2, grace_hours=0)
        assert done.forgotten == (1, 2, 3, 4)
        kept = measured[5] | measured[6] | set(first.values())
        lost = {gates[version] for version in (1, 2, 3, 4)} | set().union(*measured.values()) - kept
        assert before - objects(grown) == lost
        assert all(store.state(digest) for digest in kept)
        assert stored(bank) == rows, "rows are the lineage"
        assert [router.forgotten_at is None for router in bank.routers()] == [False] * 4 + [
            True
        ] * 2
        assert bank.verify().ok
        assert bank.verify().unreferenced == ()
        assert bank.gc(keep_routers=2, grace_hours=0).deleted == ()


def test_the_report_still_compares_with_each_tasks_first_day(grown: Path) -> None:
    with Bank.open(grown) as bank:
        before = figures(bank)
        bank.gc(keep_routers=2)
        after = figures(bank, verify=True)
        starts = {task.task: task.start for task in bank.forgetting_report().tasks}
    assert starts == {"films": 1, "laws": 2, "games": 3}
    assert before["routers"] == [1, 2, 3, 4, 5, 6]
    assert after["routers"] == [5, 6]
    assert after["matrix"] == before["matrix"][-2:]
    same = ("average_accuracy", "backward_transfer", "routing_regret", "verdict", "confusion")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    for old, new in zip(before["tasks"], after["tasks"], strict=True):
        measured = ("oracle_source", "verification")
        assert {n: v for n, v in new.items() if n not in measured} == {
            n: v for n, v in old.items() if n not in measured
        }


def test_what_names_a_forgotten_router_is_told_what_to_do(grown: Path) -> None:
    with Bank.open(grown) as bank:
        bank.set_alias("stable", 2)
        done = bank.gc(keep_routers=1)
        assert done.forgotten == (1, 3, 4, 5)
        assert [(k.where, "expertbank alias" in k.todo) for k in done.kept] == [("router@2", True)]
        for use in (
            lambda: bank.set_alias("active", 1),
            lambda: bank.forgetting_report(from_router=1),
            lambda: bank.forgetting_report(to_router="router@3"),
            lambda: bank._workspace.router(bank.routers()[0]),
        ):
            with pytest.raises(NotFoundError, match=r"was forgotten.*expertbank retrain-router"):
                use()
        bank.set_alias("active", "stable")
        assert bank.predict("a good film")
        assert bank.forgetting_report(verify=True).router == 2
        events = [e.subject for e in bank.history() if e.kind == "router-forgotten"]
        assert events == ["router@1", "router@3", "router@4", "router@5"]


def test_a_dry_run_and_a_number_that_cannot_be_change_nothing(grown: Path) -> None:
    before = content(grown)
    with Bank.open(grown, read_only=True) as bank:
        told = bank.gc(dry_run=True, keep_routers=2)
        with pytest.raises(InputError, match="keep_routers must be at least 1"):
            bank.gc(dry_run=True, keep_routers=0)
    assert told.forgotten == (1, 2, 3, 4)
    assert content(grown) == before
    with Bank.open(grown) as bank:
        done = bank.gc(keep_routers=2)
    assert {one.where for one in done.deleted} == {one.where for one in told.deleted}


def test_a_router_that_was_forgotten_and_is_trained_again_is_the_same_one(grown: Path) -> None:
    with Bank.open(grown) as bank:
        before = figures(bank, to_router=3)
        bank.gc(keep_routers=1)
        router = bank.retrain_router().router
        assert (router.version, router.forgotten_at) == (3, None)
        assert bank.registry.router().version == 3
        after = figures(bank, verify=True)
        assert after["matrix"] == before["matrix"][-1:]
        assert bank.verify().ok
        assert bank.predict("a good film")


def test_a_forgotten_router_of_a_bank_of_before_is_measured_anew(grown: Path) -> None:
    as_before(grown)
    with Bank.open(grown) as bank:
        before = figures(bank, to_router=3)
        bank.gc(keep_routers=1)
        assert bank.verify().ok
        bank.retrain_router()
        assert figures(bank, verify=True)["matrix"] == before["matrix"][-1:]
        assert bank.verify().ok


def test_killed_after_the_commit_the_next_gc_deletes_what_is_left(
    grown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(store: LocalStore, digest: str) -> None:
        raise Killed

    with Bank.open(grown) as bank:
        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, "delete", killed)
            with pytest.raises(Killed):
                bank.gc(keep_routers=1)
        left = bank.verify()
        assert left.ok
        assert left.unreferenced
        assert figures(bank)["routers"] == [6]
        done = bank.gc()
        assert len(done.deleted) == len(left.unreferenced)
        assert bank.verify().unreferenced == ()


def test_an_older_database_that_names_deleted_files_is_not_restored(
    grown: Path, tmp_path: Path
) -> None:
    with Bank.open(grown) as bank:
        bank.backup(tmp_path / "older.db")
        bank.gc(keep_routers=1)
        bank.backup(tmp_path / "later.db")
        before = content(grown)
        with pytest.raises(IntegrityError, match="does not hold as they were"):
            bank.restore(tmp_path / "older.db")
        assert {k: v for k, v in content(grown).items() if k != "bank.lock"} == {
            k: v for k, v in before.items() if k != "bank.lock"
        }
        bank.restore(tmp_path / "later.db")
        assert bank.verify().ok


def test_removed_tasks_and_old_routers_can_go_in_one_sweep(grown: Path) -> None:
    with Bank.open(grown) as bank:
        bank.remove("laws")
        bank.retrain_router()
        told = bank.gc(dry_run=True, purge_removed=True, keep_routers=1, grace_hours=0)
        done = bank.gc(purge_removed=True, keep_routers=1, grace_hours=0)
        assert done.purged == ("laws",)
        assert done.forgotten == (1, 2, 3, 4, 5, 6)
        assert sorted(one.where for one in told.deleted) == sorted(
            one.where for one in done.deleted
        )
        assert len({one.where for one in done.deleted}) == len(done.deleted)
        found = bank.verify()
        assert found.ok
        assert found.unreferenced == ()
        assert {task.task for task in bank.forgetting_report(verify=True).tasks} == {
            "films",
            "games",
        }


def test_a_bank_that_keeps_statistics_forgets_routers_too(
    backbone_folder: Any, tmp_path: Path
) -> None:
    with Bank.open(tmp_path / "bank", backbone=str(backbone_folder("bert"))) as bank:
        bank.init(keep="stats")
        add(bank, "films", tmp_path)
        bank.retrain_router()
        add(bank, "laws", tmp_path)
        for config in (OTHER, NEARLY):
            bank.retrain_router(config=config)
        assert stored(bank) == []
        before = figures(bank)
        assert bank.gc(keep_routers=1).forgotten == (1, 2)
        after = figures(bank)
        assert (before["routers"], after["routers"]) == ([1, 2, 3], [3])
        assert after["tasks"][0]["routed"] == before["tasks"][0]["routed"]
        assert bank.verify().ok
