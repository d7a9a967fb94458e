"""Frozen rows stay frozen for anyone who opens the file, not only for this package."""

from __future__ import annotations

import sqlite3

import pytest

from expertbank.registry import frozen
from expertbank.registry.sqlite.registry import SqliteRegistry
from expertbank.registry.tables import Base

FROZEN_COLUMNS = [
    (freeze.table, column)
    for freeze in frozen.FROZEN
    for column in (freeze.columns or Base.metadata.tables[freeze.table].columns.keys())
]
UNDELETABLE = [freeze.table for freeze in frozen.FROZEN if freeze.keys]


@pytest.fixture
def raw(full: SqliteRegistry):
    connection = sqlite3.connect(full.path)
    yield connection
    connection.close()


@pytest.mark.parametrize(("table", "column"), FROZEN_COLUMNS)
def test_content_cannot_be_updated(raw, table, column) -> None:
    assert raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > 0
    with pytest.raises(sqlite3.IntegrityError, match="cannot be changed"):
        raw.execute(f"UPDATE {table} SET {column} = {column}")


@pytest.mark.parametrize("table", UNDELETABLE)
def test_rows_cannot_be_deleted(raw, table) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="cannot be deleted"):
        raw.execute(f"DELETE FROM {table}")


@pytest.mark.parametrize("table", UNDELETABLE)
def test_rows_cannot_be_replaced(raw, table) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="cannot be replaced"):
        raw.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")


def test_an_expert_cannot_be_replaced_under_a_new_id(raw) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="cannot be replaced"):
        raw.execute(
            "INSERT OR REPLACE INTO experts SELECT id + 100, task_id, version, digest, 1, 1, 1, "
            "labels, kind, run_id, created_at FROM experts"
        )


def test_every_content_table_is_frozen() -> None:
    movable = {"aliases"}
    assert {freeze.table for freeze in frozen.FROZEN} == set(Base.metadata.tables) - movable


def test_what_something_refers_to_cannot_be_deleted(raw) -> None:
    raw.execute("PRAGMA foreign_keys=ON")
    for table in ("artifacts", "routers", "experts", "tasks", "runs"):
        with pytest.raises(sqlite3.IntegrityError):
            raw.execute(f"DELETE FROM {table}")


def test_cached_features_and_then_their_artifact_can_be_deleted(raw) -> None:
    raw.execute("PRAGMA foreign_keys=ON")
    (digest,) = raw.execute("SELECT digest FROM feature_sets LIMIT 1").fetchone()
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        raw.execute("DELETE FROM artifacts WHERE digest = ?", (digest,))
    raw.execute("DELETE FROM feature_sets WHERE digest = ?", (digest,))
    raw.execute("DELETE FROM artifacts WHERE digest = ?", (digest,))


def test_every_foreign_key_restricts() -> None:
    keys = [key for table in Base.metadata.tables.values() for key in table.foreign_keys]
    assert keys
    assert {key.ondelete for key in keys} == {"RESTRICT"}


def test_every_constraint_has_a_name() -> None:
    for table in Base.metadata.tables.values():
        assert all(constraint.name for constraint in table.constraints), table.name


def test_a_member_pins_the_digest_of_an_existing_expert(raw) -> None:
    raw.execute("PRAGMA foreign_keys=ON")
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        raw.execute("INSERT INTO router_members VALUES (1, 5, 3, ?, NULL)", ("0" * 64,))


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("INSERT INTO artifacts VALUES ('ab', 'expert', 1, '', NULL)", "digest_is_sha256"),
        (f"INSERT INTO artifacts VALUES ('{'a' * 64}', '', 1, '', NULL)", "kind_not_empty"),
        (f"INSERT INTO artifacts VALUES ('{'a' * 64}', 'x', -1, '', NULL)", "ck_artifacts_bytes"),
        (
            "INSERT INTO tasks VALUES (9, 't', '', '[]', '{}', '', NULL, 0, NULL)",
            "ck_tasks_kind_not_empty",
        ),
        (
            "INSERT INTO evaluations VALUES (99, 1, NULL, 5, 6, 'x', '{}', '{}', '')",
            "ck_evaluations_counts",
        ),
        (
            f"INSERT INTO backbones VALUES (2, 2, '{'b' * 64}', '', '', '', '{'b' * 64}', '', "
            "NULL, NULL, NULL)",
            "one_per_bank",
        ),
    ],
)
def test_rows_that_make_no_sense_are_refused(raw, statement, constraint) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=constraint):
        raw.execute(statement)


def test_an_alias_a_tombstone_and_the_group_of_a_task_may_move(raw) -> None:
    raw.execute("UPDATE aliases SET router_version = 1")
    raw.execute("UPDATE tasks SET removed_at = 'now', removals = removals + 1")
    raw.execute("UPDATE tasks SET group_name = 'together'")
    raw.execute("UPDATE artifacts SET purged_at = 'now'")
