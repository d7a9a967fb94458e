"""Taking a task out of the bank, and deleting what nothing needs."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from command_line import COMMAND, call, content, done, write_task

from expertbank import Bank, Row
from expertbank.artifacts.lock import BankLock
from expertbank.errors import NotFoundError
from expertbank.serving.asking import Ask
from expertbank.serving.from_bank import BankSource
from expertbank.serving.server import Server

pytestmark = pytest.mark.slow


def age(path: Path, hours: float) -> Path:
    before = time.time() - hours * 3600
    os.utime(path, (before, before))
    return path


def stored(home: Path) -> set[str]:
    return {path.stem for path in home.glob("objects/*/*.safetensors")}


def orphan(home: Path, text: str = "ab", hours: float = 48) -> Path:
    digest = (text * 32)[:64]
    path = home / "objects" / digest[:2] / f"{digest}.safetensors"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"left behind")
    return age(path, hours)


# -- remove --------------------------------------------------------------------------------


def test_a_removed_task_is_left_out_of_the_next_router(bank: Path) -> None:
    removed = done("--home", bank, "--json", "remove", "--task", "mood", "--yes").document
    assert removed["experts"] == ["mood@1"]
    assert removed["aliases"] == ["active"]
    assert "retrain-router" in removed["todo"]
    router = done("--home", bank, "--json", "retrain-router").document
    assert router["tasks"] == ["poll", "sport"]
    answers = done("--home", bank, "--json", "predict", "a good film").lines
    assert answers[0]["task"] != "mood"
    listed = done("--home", bank, "--json", "list").document["experts"]
    assert {e["id"]: e["removed"] for e in listed}["mood@1"] is True
    assert done("--home", bank, "verify").code == 0


def test_remove_can_retrain_the_router_at_once(bank: Path) -> None:
    answer = done(
        "--home", bank, "--json", "remove", "--task", "mood", "--yes", "--retrain-router"
    ).document
    assert answer["router"]["tasks"] == ["poll", "sport"]
    assert answer["todo"] == ""


def test_a_removed_task_cannot_be_named_and_says_how_it_comes_back(
    bank: Path, tmp_path: Path
) -> None:
    done("--home", bank, "remove", "--task", "mood", "--yes")
    named = call("--home", bank, "predict", "--task", "mood", "a good film")
    assert named.code == 10
    assert "was removed" in named.err
    assert "--new-version" in named.err
    data = write_task(tmp_path / "mood.csv", "mood", 60)
    again = ["--home", bank, "--json", "add", "--task", "mood", "--data", data, "--epochs", 1]
    refused = call(*again)
    assert refused.code == 3
    assert "was removed" in refused.error["message"]
    added = done(*again, "--new-version", "--retrain-router").document
    assert added["expert"]["id"] == "mood@2"
    assert "mood" in added["router"]["tasks"]
    events = done("--home", bank, "--json", "history").document["events"]
    assert [e["subject"] for e in events if e["kind"] == "task-removed"] == ["mood"]


def test_a_dry_run_writes_nothing_and_needs_no_yes(bank: Path) -> None:
    before = content(bank)
    assert done("--home", bank, "--json", "remove", "--task", "mood", "--dry-run").document[
        "dry_run"
    ]
    orphan(bank)
    before = content(bank)
    found = done("--home", bank, "--json", "gc", "--dry-run", "--purge-removed").document
    assert [entry["why"] for entry in found["deleted"]] == ["unreferenced"]
    assert content(bank) == before


@pytest.mark.parametrize("words", [["remove", "--task", "mood"], ["gc"]])
def test_without_a_terminal_what_deletes_asks_for_yes(bank: Path, words: list[str]) -> None:
    orphan(bank)
    before = content(bank)
    refused = call("--home", bank, *words)
    assert refused.code == 2
    assert "--yes" in refused.err
    assert content(bank) == before


def test_removing_twice_is_harmless_and_an_unknown_task_is_not_found(bank: Path) -> None:
    done("--home", bank, "remove", "--task", "mood", "--yes")
    before = content(bank)
    again = done("--home", bank, "--json", "remove", "--task", "mood").document
    assert again["already_removed"] is True
    assert content(bank) == before | {"bank.lock": content(bank)["bank.lock"]}
    assert call("--home", bank, "remove", "--task", "mod", "--yes").code == 10


# -- gc ------------------------------------------------------------------------------------


def test_gc_deletes_old_leftovers_and_nothing_else(bank: Path) -> None:
    kept = content(bank)
    old = [
        orphan(bank),
        age(_file(bank / "objects" / "ab" / ".tmp-0123456789abcdef"), 48),
        age(_file(bank / ".tmp-0123456789abcdef"), 48),
        age(_file(bank / f".copy.db.{'0' * 32}"), 48),
        age(_file(bank / "registry.db.0001.20260101T000000000000Z.backup", b""), 48),
        age(_file(bank / "checkpoints" / "mood.safetensors"), 9e4),
    ]
    (bank / ".bundle-0123456789ab").mkdir()
    old.append(age(bank / ".bundle-0123456789ab", 48))
    young = [
        orphan(bank, "cd", hours=1),
        _file(bank / "objects" / "cd" / ".tmp-0123456789abcdef"),
        age(_file(bank / "checkpoints" / "other.safetensors"), 9e4),
        age(_file(bank / "registry.db.0001.20260101T000000000001Z.backup", b"backup"), 48),
    ]
    found = done("--home", bank, "--json", "gc", "--yes").document
    assert {entry["path"] for entry in found["deleted"]} == {str(path) for path in old}
    assert not [path for path in old if path.exists()]
    assert [path for path in young if not path.exists()] == []
    assert kept.items() <= content(bank).items()
    (training,) = [one for one in found["kept"] if "unfinished training" in one["what"]]
    assert training["what"] == "unfinished training of other"
    assert training["todo"].endswith(f"--resume; or delete {young[2]}")
    assert done("--home", bank, "--json", "gc", "--yes", "--grace", 0).document["deleted"]
    assert not young[0].exists()
    assert done("--home", bank, "verify").code == 0


def _file(path: Path, data: bytes = b"left behind") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def test_an_aside_bundle_whose_successor_never_came_is_kept(bank: Path) -> None:
    aside = bank / ".bundle-0123456789ab"
    aside.mkdir()
    (aside / "manifest.json").write_text("{}")
    age(aside, 48)
    done("--home", bank, "gc", "--yes")
    assert aside.exists()
    (bank / "bundle").mkdir()
    done("--home", bank, "gc", "--yes")
    assert not aside.exists()


def test_files_that_a_backup_beside_the_database_names_are_kept(bank: Path) -> None:
    backup = bank / "registry.db.0003.20260101T000000000000Z.backup"
    done("--home", bank, "db", "backup", backup)
    victim = orphan(bank)
    with sqlite3.connect(backup) as raw:
        raw.execute("INSERT INTO artifacts VALUES (?, 'expert', 11, '2026', NULL)", (victim.stem,))
    found = done("--home", bank, "--json", "gc", "--yes").document
    assert found["deleted"] == []
    assert any("backups" in entry["what"] for entry in found["kept"])
    backup.unlink()
    done("--home", bank, "gc", "--yes")
    assert not victim.exists()


def test_purging_a_removed_task_deletes_its_files_and_ends_its_routers(bank: Path) -> None:
    before = stored(bank)
    done("--home", bank, "remove", "--task", "mood", "--yes")
    used = done("--home", bank, "--json", "gc", "--yes", "--purge-removed").document
    assert used["purged"] == []
    assert any("still used by active" in entry["what"] for entry in used["kept"])
    assert stored(bank) == before

    done("--home", bank, "retrain-router")
    purged = done("--home", bank, "--json", "gc", "--yes", "--purge-removed").document
    assert purged["purged"] == ["mood"]
    assert purged["routers"] == [1, 2]
    shown = done("--home", bank, "--json", "show", "mood@1").document
    assert shown["features"] is None
    assert shown["expert"]["digest"] not in stored(bank)
    refused = call("--home", bank, "alias", "active", "router@2")
    assert refused.code == 10
    assert "cannot be used again" in refused.err
    report = call("--home", bank, "forgetting-report", "--to", "router@2")
    assert report.code == 10
    assert "router@2 cannot be used again: the files of mood@1" in report.err
    for words in (["verify"], ["list"], ["history"], ["predict", "a vote"], ["forgetting-report"]):
        assert done("--home", bank, *words).code == 0
    again = done("--home", bank, "--json", "gc", "--yes", "--purge-removed").document
    assert again["deleted"] == []


def test_what_gc_deleted_is_nowhere_said_to_be_kept(bank: Path, made_bank: Path) -> None:
    done("--home", bank, "remove", "--task", "mood", "--yes", "--retrain-router")
    done("--home", bank, "gc", "--yes", "--purge-removed")
    again = done("--home", bank, "remove", "--task", "mood", "--yes")
    assert "deleted" in again.out
    assert "kept" not in again.out
    told = done("--home", bank, "--json", "remove", "--task", "mood", "--yes").document
    assert (told["experts"], told["purged"]) == (["mood@1"], ["mood@1"])
    refused = call("--home", bank, "add", "--task", "mood", "--data", made_bank / "mood.csv")
    assert refused.code == 3
    assert "the files of its expert mood@1 were deleted by gc" in refused.err
    listed = done("--home", bank, "--json", "list").document
    usable = {one["id"]: one["usable"] for one in listed["experts"]}
    assert usable == {"mood@1": False, "poll@1": True, "sport@1": True}
    assert [one["usable"] for one in listed["routers"]] == [False, False, True]
    shown = done("--home", bank, "list").out
    assert "mood@1 (removed, deleted)" in shown
    assert "router@1 (unusable)" in shown
    assert "router@3 (" not in shown
    for name, kind, holds in (("mood@1", "expert", False), ("router@3", "router", True)):
        assert done("--home", bank, "--json", "show", name).document[kind]["usable"] is holds


def test_where_no_task_is_alive_no_fit_is_advised(bank: Path, tmp_path: Path) -> None:
    tasks = ("mood", "poll", "sport")
    removed = [done("--home", bank, "--json", "remove", "--task", t, "--yes") for t in tasks]
    todos = [one.document["todo"] for one in removed]
    assert ["retrain-router" in todo for todo in todos] == [True, True, False]
    assert " add --task NAME --data FILE" in todos[-1]
    done("--home", bank, "gc", "--yes", "--purge-removed")
    for words in (["forgetting-report"], ["export", tmp_path / "out"], ["predict", "a film"]):
        refused = call("--home", bank, *words)
        assert refused.code == 10
        assert " add --task NAME --new-version" in refused.err
        assert "retrain-router" not in refused.err


def test_a_map_of_a_router_whose_files_gc_deleted_says_what_to_do(bank: Path) -> None:
    for task in ("mood", "poll", "sport"):
        done("--home", bank, "remove", "--task", task, "--yes")
    done("--home", bank, "gc", "--purge-removed", "--yes")
    answer = call("--home", bank, "--json", "map")
    assert answer.code == 10
    assert "were deleted after their task was removed" in answer.error["message"]
    assert " add" in answer.error["message"]


def test_a_purge_that_died_before_it_deleted_the_files_is_finished_by_the_next(bank: Path) -> None:
    done("--home", bank, "remove", "--task", "mood", "--yes", "--retrain-router")
    before = {path: path.read_bytes() for path in bank.glob("objects/*/*.safetensors")}
    first = done("--home", bank, "--json", "gc", "--yes", "--purge-removed").document
    for entry in first["deleted"]:
        path = Path(entry["path"])
        path.write_bytes(before[path])  # as if the rows had been committed and no file deleted
        age(path, 48)
    assert done("--home", bank, "verify").code == 0
    second = done("--home", bank, "--json", "gc", "--yes").document
    assert {e["path"] for e in second["deleted"]} == {e["path"] for e in first["deleted"]}


def test_a_purged_expert_that_is_trained_again_is_whole_again(bank: Path, made_bank: Path) -> None:
    done("--home", bank, "remove", "--task", "mood", "--yes", "--retrain-router")
    done("--home", bank, "gc", "--yes", "--purge-removed")
    data = made_bank / "mood.csv"
    again = ["add", "--task", "mood", "--data", data, "--epochs", 2, "--new-version"]
    done("--home", bank, *again, "--retrain-router")
    compared = done("--home", bank, "--json", "forgetting-report", "--from", "router@2").document
    (mood,) = (task for task in compared["tasks"] if task["task"] == "mood")
    assert mood["from"] == 2, "the same bytes came back"
    assert done("--home", bank, "predict", "--task", "mood", "a good film").code == 0
    assert done("--home", bank, "verify").code == 0


def test_a_purged_version_is_neither_compared_with_nor_served(bank: Path, made_bank: Path) -> None:
    done("--home", bank, "remove", "--task", "mood", "--yes", "--retrain-router")
    done("--home", bank, "gc", "--yes", "--purge-removed")
    data = made_bank / "mood.csv"
    again = ["add", "--task", "mood", "--data", data, "--epochs", 1, "--new-version"]
    done("--home", bank, *again, "--retrain-router")
    compared = done("--home", bank, "--json", "forgetting-report", "--from", "router@2").document
    (mood,) = (task for task in compared["tasks"] if task["task"] == "mood")
    assert (mood["from"], mood["verdict"]["routed"]) == (None, None)
    with Bank.open(bank, read_only=True) as opened:
        server = Server(BankSource(opened))
        server.start()
        try:
            assert server.wait_ready(60).model("mood").versions == (2,)
            with pytest.raises(NotFoundError):
                server.submit(Ask((Row("a good film"),), model="mood", version=1))
        finally:
            server.stop()


# -- beside others -------------------------------------------------------------------------


def test_gc_gives_up_with_11_while_another_writes(
    bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPERTBANK_LOCK_WAIT", "0.05")
    victim = orphan(bank)
    with BankLock(bank / "bank.lock").shared():
        locked = call("--home", bank, "--json", "gc", "--yes")
        assert locked.code == 11
        assert "other commands are writing" in locked.error["message"]
        assert victim.exists()
        assert done("--home", bank, "gc", "--dry-run").code == 0
        assert done("--home", bank, "remove", "--task", "mood", "--yes").code == 0
    with BankLock(bank / "bank.lock").exclusive():
        for words in (["remove", "--task", "poll", "--yes"], ["retrain-router"]):
            assert call("--home", bank, *words).code == 11
        for words in (["list"], ["verify"], ["predict", "a vote"]):
            assert call("--home", bank, *words).code == 0


def test_a_wait_that_is_no_number_is_refused(bank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERTBANK_LOCK_WAIT", "soon")
    assert call("--home", bank, "gc", "--yes").code == 2


def test_gc_without_grace_beside_add_never_takes_a_live_file(bank: Path, made_bank: Path) -> None:
    words = ["add", "--task", "late", "--data", str(made_bank / "mood.csv"), "--epochs", "1"]
    adding = subprocess.Popen(
        [*COMMAND, "--home", str(bank), "--quiet", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    rounds = 0
    try:
        while adding.poll() is None:
            orphan(bank)
            done("--home", bank, "gc", "--yes", "--grace", 0)
            rounds += 1
    finally:
        _, errors = adding.communicate(timeout=120)
    assert adding.returncode == 0, errors.decode()
    assert rounds > 1
    done("--home", bank, "gc", "--yes", "--grace", 0)
    assert done("--home", bank, "verify").code == 0
    assert done("--home", bank, "predict", "--task", "late", "a good film").code == 0


def test_old_routers_are_forgotten_on_request_and_every_command_says_so(bank: Path) -> None:
    done("--home", bank, "retrain-router", "--kind", "ridge")
    before, rows = stored(bank), content(bank)["registry.db"]
    refused = call("--home", bank, "gc", "--keep-routers", 1)
    assert refused.code == 2
    assert "--yes" in refused.err
    told = done("--home", bank, "--json", "gc", "--keep-routers", 1, "--dry-run").document
    assert told["forgotten"] == [1, 2]
    assert (stored(bank), content(bank)["registry.db"]) == (before, rows)
    gone = done("--home", bank, "--json", "gc", "--keep-routers", 1, "--yes").document
    assert gone["forgotten"] == [1, 2]
    assert before - stored(bank) == {Path(one["path"]).stem for one in gone["deleted"]}
    assert {one["why"] for one in gone["deleted"]} == {"of a forgotten router"}

    listed = done("--home", bank, "--json", "list").document["routers"]
    assert [router["forgotten_at"] is None for router in listed] == [False, False, True]
    assert "router@1 (forgotten)" in done("--home", bank, "list").out
    shown = done("--home", bank, "--json", "show", "router@1").document
    assert shown["router"]["forgotten_at"] is not None
    assert {one["expert_id"] for one in shown["evaluations"]} == set(shown["router"]["members"])
    assert set(shown["features"]) == set(shown["router"]["members"])
    events = done("--home", bank, "--json", "history").document["events"]
    forgotten = [event["subject"] for event in events if event["kind"] == "router-forgotten"]
    assert forgotten == ["router@1", "router@2"]

    for words in (["alias", "active", "1"], ["forgetting-report", "--from", "router@1"]):
        told = call("--home", bank, "--json", *words)
        assert told.code == 10
        assert "was forgotten by gc --keep-routers" in told.error["message"]
    report = done("--home", bank, "--json", "forgetting-report", "--verify").document
    assert report["routers"] == [3]
    assert all(task["flip_rate"] is not None for task in report["tasks"])
    assert done("--home", bank, "verify").code == 0
    assert call("--home", bank, "gc", "--keep-routers", 0, "--yes").code == 2
