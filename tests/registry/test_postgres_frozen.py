"""Frozen rows stay frozen for anyone who connects, and a check finds what a hand can break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer, places

from expertbank.registry import frozen, schema
from expertbank.registry.postgres.registry import PostgresRegistry
from expertbank.registry.tables import Base
from expertbank.testing.bank_rows import fill

FROZEN_COLUMNS = [
    (freeze.table, column)
    for freeze in frozen.FROZEN
    for column in (freeze.columns or Base.metadata.tables[freeze.table].columns.keys())
]
UNDELETABLE = [freeze.table for freeze in frozen.FROZEN if freeze.keys]


@pytest.fixture(scope="module")
def shared(postgres: PostgresServer, fresh_postgres: str) -> Iterator[PostgresRegistry]:
    """A bank with rows in every table, that no test changes."""
    with places(postgres, fresh_postgres) as place, place().open() as registry:
        fill(registry)
        yield registry


@pytest.fixture
def broken(postgres: PostgresServer, fresh_postgres: str) -> Iterator[PostgresRegistry]:
    """A bank with rows in every table, to break."""
    name = postgres.make(fresh_postgres)
    from expertbank.registry.postgres.database import PostgresDatabase

    with PostgresDatabase.at(postgres.url(name)).open() as registry:
        fill(registry)
        yield registry
    postgres.drop(name)


def run(postgres: PostgresServer, registry: PostgresRegistry, *statements: str) -> None:
    postgres.execute(str(registry.address).rpartition("/")[2], *statements)


@pytest.mark.parametrize(("table", "column"), FROZEN_COLUMNS)
def test_content_cannot_be_updated(postgres, shared, table, column) -> None:
    import psycopg

    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="cannot be changed"):
        run(postgres, shared, f"UPDATE {table} SET {column} = {column}")


@pytest.mark.parametrize("table", UNDELETABLE)
@pytest.mark.parametrize("action", ["DELETE FROM", "TRUNCATE"])
def test_rows_cannot_be_deleted(postgres, shared, table, action) -> None:
    import psycopg

    cascade = " CASCADE" if action == "TRUNCATE" else ""
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="cannot be deleted"):
        run(postgres, shared, f"{action} {table}{cascade}")


def test_rows_cannot_be_replaced(postgres, shared) -> None:
    import psycopg

    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="cannot be changed"):
        run(
            postgres,
            shared,
            "INSERT INTO experts SELECT * FROM experts ON CONFLICT (id) DO UPDATE SET version = 9",
        )


def test_what_something_refers_to_cannot_be_deleted(postgres, shared) -> None:
    import psycopg

    with pytest.raises(psycopg.errors.IntegrityError):
        run(postgres, shared, "DELETE FROM artifacts")


def test_an_alias_a_tombstone_and_the_group_of_a_task_may_move(postgres, broken) -> None:
    run(
        postgres,
        broken,
        "UPDATE aliases SET router_version = 1",
        "UPDATE tasks SET removed_at = 'now', removals = removals + 1",
        "UPDATE tasks SET group_name = 'together'",
        "UPDATE artifacts SET purged_at = 'now'",
        "DELETE FROM feature_sets",
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("DROP TRIGGER frozen_experts_update ON experts", "is missing, so frozen rows can change"),
        (
            "ALTER TABLE experts DISABLE TRIGGER frozen_experts_update",
            "is not the one expertbank installs, so frozen rows can change",
        ),
        (
            "CREATE OR REPLACE FUNCTION frozen_refusal() RETURNS trigger LANGUAGE plpgsql "
            "AS $$BEGIN RETURN NEW; END$$",
            "is not the one expertbank installs, so frozen rows can change",
        ),
        (
            "ALTER TABLE experts DROP CONSTRAINT uq_experts_task_id_version",
            "constraint uq_experts_task_id_version of experts is missing",
        ),
        (
            "SET session_replication_role = replica; DELETE FROM runs WHERE id = 1",
            "1 rows of experts refer to a missing runs",
        ),
        (
            "SET session_replication_role = replica; DELETE FROM router_members",
            "has no members",
        ),
        (
            "UPDATE aliases SET router_version = 1 WHERE name = 'active'",
            "points at router 1, its last event at 2",
        ),
    ],
)
def test_what_a_hand_breaks_is_found(postgres, broken, change, found) -> None:
    run(postgres, broken, change)
    assert found in {problem.what for problem in broken.check()}


def test_an_old_schema_is_found(shared, monkeypatch) -> None:
    monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, "next"))
    monkeypatch.setattr(schema, "HEAD", "next")
    (problem,) = shared.check()
    assert problem.todo == "run: expertbank db upgrade"
