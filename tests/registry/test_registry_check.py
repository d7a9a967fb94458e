"""``check`` finds what a hand in the file can break."""

from __future__ import annotations

import sqlite3

import pytest

from expertbank.registry import schema


def broken(path, *statements: str) -> None:
    with sqlite3.connect(path) as raw:
        for statement in statements:
            raw.execute(statement)


def test_a_missing_trigger_is_found(full, path) -> None:
    broken(path, "DROP TRIGGER frozen_experts_update")
    (problem,) = full.check()
    assert problem.where == "trigger frozen_experts_update"
    assert "missing" in problem.what


def test_a_weakened_trigger_is_found(full, path) -> None:
    broken(
        path,
        "DROP TRIGGER frozen_experts_update",
        "CREATE TRIGGER frozen_experts_update BEFORE UPDATE ON experts BEGIN SELECT 1; END",
    )
    (problem,) = full.check()
    assert "not the one" in problem.what


def test_a_foreign_trigger_of_our_prefix_is_found(full, path) -> None:
    broken(path, "CREATE TRIGGER frozen_x BEFORE INSERT ON experts BEGIN SELECT 1; END")
    assert [problem.where for problem in full.check()] == ["trigger frozen_x"]


def test_a_changed_expert_digest_is_found_in_its_routers(full, path) -> None:
    broken(
        path,
        "DROP TRIGGER frozen_experts_update",
        "UPDATE experts SET digest = (SELECT digest FROM feature_sets LIMIT 1) WHERE id = 2",
    )
    where = {problem.where for problem in full.check()}
    assert {"router@1", "router@2"} <= where


def test_a_deleted_member_is_found(full, path) -> None:
    broken(path, "DROP TRIGGER frozen_experts_delete", "DELETE FROM experts WHERE id = 1")
    whats = [(problem.where, problem.what) for problem in full.check()]
    assert ("router@1", "member 0 is no registered expert") in whats
    assert any("refers to a missing experts" in what for _, what in whats)


def test_a_router_without_members_is_found(full, path) -> None:
    broken(path, "DROP TRIGGER frozen_router_members_delete", "DELETE FROM router_members")
    assert "has no members" in {problem.what for problem in full.check()}


def test_an_alias_moved_by_hand_is_found(full, path) -> None:
    broken(path, "UPDATE aliases SET router_version = 1 WHERE name = 'active'")
    (problem,) = full.check()
    assert problem.where == "alias active"


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM alias_events WHERE id = (SELECT min(id) FROM alias_events)",
        "UPDATE alias_events SET previous_version = 2 WHERE name = 'active'",
        "UPDATE alias_events SET router_version = 2 WHERE id = (SELECT min(id) FROM alias_events)",
    ],
)
def test_a_move_of_an_alias_that_was_changed_or_deleted_is_found(full, path, change) -> None:
    with sqlite3.connect(path) as raw:
        kept = "SELECT name, sql FROM sqlite_master WHERE name LIKE 'frozen_alias_events%'"
        triggers = raw.execute(kept).fetchall()
    drop = (f"DROP TRIGGER {name}" for name, _ in triggers)
    broken(path, *drop, change, *(sql for _, sql in triggers))
    problems = full.check()
    assert {problem.where for problem in problems} == {"alias active"}
    assert any("the one before" in problem.what for problem in problems)


def test_an_old_schema_is_found(full, monkeypatch) -> None:
    monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, "next"))
    monkeypatch.setattr(schema, "HEAD", "next")
    (problem,) = full.check()
    assert problem.todo == "run: expertbank db upgrade"


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_truncated_file_is_found(full, path, keep) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    problems = full.check()
    assert problems
    assert all("backup" in problem.todo for problem in problems)


def test_overwritten_pages_are_found(full, path) -> None:
    content = bytearray(path.read_bytes())
    for start in range(4096, len(content), 8192):
        content[start : start + 512] = b"\xff" * 512
    path.write_bytes(bytes(content))
    assert full.check()
