"""On PostgreSQL the same migrations make the same tables, and keep every row of every revision."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from postgres_server import PostgresServer
from psycopg import sql
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,  # noqa: F401
    test_single_head_revision,  # noqa: F401
    test_up_down_consistency,  # noqa: F401
    test_upgrade,  # noqa: F401
)
from sqlalchemy import Engine
from sqlalchemy.pool import NullPool

from expertbank.errors import ExpertBankError, NotFoundError, SchemaTooNewError
from expertbank.registry import schema
from expertbank.registry.location import Upgrade
from expertbank.registry.postgres import triggers
from expertbank.registry.postgres.connection import engine_at
from expertbank.registry.postgres.database import PostgresDatabase
from expertbank.registry.sqlite.file import SqliteFile
from expertbank.registry.tables import Base
from expertbank.testing.bank_rows import known

ASSETS = Path(__file__).parents[1] / "assets"
Content = dict[str, tuple[list[str], list[tuple[Any, ...]]]]


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.make()
    yield name
    postgres.drop(name)


@pytest.fixture
def place(postgres: PostgresServer, database: str) -> PostgresDatabase:
    return PostgresDatabase.at(postgres.url(database))


@pytest.fixture
def alembic_engine(place: PostgresDatabase) -> Engine:
    return engine_at(place.address, limited=False, poolclass=NullPool)


def frozen(revision: str) -> Content:
    """Table to its columns and rows, of the frozen bank of a revision."""
    found: Content = {}
    with sqlite3.connect(ASSETS / f"registry_{revision}.db") as raw:
        tables = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            if table != "alembic_version":
                names = [row[1] for row in raw.execute(f"PRAGMA table_info({table})")]
                found[table] = names, raw.execute(f"SELECT * FROM {table}").fetchall()
    return found


def content_of(postgres: PostgresServer, database: str, like: Content) -> Content:
    """The same tables and columns of a database."""
    return {
        table: (names, postgres.execute(database, f"SELECT {', '.join(names)} FROM {table}"))
        for table, (names, _) in like.items()
    }


def ordered(content: Content) -> dict[str, list[tuple[Any, ...]]]:
    return {table: sorted(rows, key=repr) for table, (_, rows) in content.items()}


def load(postgres: PostgresServer, database: str, revision: str) -> Content:
    """Make the tables of a revision and put the frozen bank's rows into them."""
    engine = engine_at(PostgresDatabase.at(postgres.url(database)).address, poolclass=NullPool)
    with engine.begin() as connection:
        command.upgrade(schema.alembic_config(connection), revision)
    content = frozen(revision)
    with psycopg.connect(postgres.dsn(database)) as raw:
        raw.execute("SET session_replication_role = replica")
        raw.execute("DELETE FROM banks" if "banks" in content else "SELECT 1")
        for table, (names, rows) in content.items():
            into = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                sql.Identifier(table),
                sql.SQL(", ").join(map(sql.Identifier, names)),
                sql.SQL(", ").join([sql.Placeholder()] * len(names)),
            )
            raw.cursor().executemany(into, rows)
    return content


@pytest.mark.parametrize("revision", schema.REVISIONS)
def test_upgrading_from_any_revision_keeps_every_value_of_every_row(
    postgres: PostgresServer, database: str, place: PostgresDatabase, tmp_path: Path, revision: str
) -> None:
    before = load(postgres, database, revision)
    assert place.revision() == revision
    if revision != schema.HEAD:
        with pytest.raises(ExpertBankError, match="db upgrade"):
            place.open()
    assert place.upgrade() == Upgrade(revision, schema.HEAD, None)
    assert ordered(content_of(postgres, database, before)) == ordered(before)
    # What the registry tells is what it tells of the same bank in SQLite.
    file = tmp_path / "registry.db"
    file.write_bytes((ASSETS / f"registry_{revision}.db").read_bytes())
    SqliteFile(file).upgrade()
    with place.open() as registry, SqliteFile(file).open() as beside:
        assert registry.check() == ()
        assert known(registry) == known(beside)


def test_the_tables_can_be_taken_back_to_any_revision_and_every_other_value_stays(
    postgres: PostgresServer, database: str, place: PostgresDatabase
) -> None:
    load(postgres, database, schema.HEAD)
    oldest = frozen(schema.REVISIONS[0])
    before = content_of(postgres, database, oldest)
    with engine_at(place.address, limited=False, poolclass=NullPool).begin() as connection:
        command.downgrade(schema.alembic_config(connection), schema.REVISIONS[0])
    assert place.revision() == schema.REVISIONS[0]
    assert ordered(content_of(postgres, database, oldest)) == ordered(before)
    place.upgrade()
    with place.open() as registry:
        assert registry.check() == ()


def test_a_migrated_database_has_exactly_our_tables_triggers_and_bytewise_texts(
    postgres: PostgresServer, database: str, place: PostgresDatabase
) -> None:
    place.create().close()
    collations = postgres.execute(
        database,
        "SELECT DISTINCT collname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
        "JOIN pg_collation ON pg_collation.oid = attcollation WHERE relkind = 'r' "
        "AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version' "
        "AND atttypid = 'text'::regtype",
    )
    assert collations == [("C",)]
    constraints = {
        str(constraint.name)
        for table in Base.metadata.sorted_tables
        for constraint in table.constraints
    }
    found = postgres.execute(
        database,
        "SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
    )
    assert {name for (name,) in found} == constraints | {"alembic_version_pkc"}
    with engine_at(place.address).connect() as connection:
        assert triggers.installed(connection) == triggers.definitions()


def test_a_failing_migration_changes_nothing(
    postgres: PostgresServer, database: str, place: PostgresDatabase, monkeypatch
) -> None:
    before = load(postgres, database, "0001")

    def fail(connection: object) -> None:
        raise RuntimeError("halfway")

    monkeypatch.setattr(triggers, "install", fail)
    with pytest.raises(RuntimeError, match="halfway"):
        place.upgrade()
    assert place.revision() == "0001"
    assert ordered(content_of(postgres, database, before)) == ordered(before)
    columns = postgres.execute(
        database,
        "SELECT 1 FROM information_schema.columns WHERE table_name = 'tasks' "
        "AND column_name = 'group_name'",
    )
    assert columns == []


def test_nothing_to_upgrade_is_not_found_and_nothing_is_made(
    postgres: PostgresServer, database: str, place: PostgresDatabase
) -> None:
    with pytest.raises(NotFoundError, match="expertbank init"):
        place.upgrade()
    assert (
        postgres.execute(
            database, "SELECT 1 FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        )
        == []
    )


def test_a_newer_schema_is_refused_and_left_alone(
    postgres: PostgresServer, database: str, place: PostgresDatabase
) -> None:
    place.create().close()
    postgres.execute(database, "UPDATE alembic_version SET version_num = '9999'")
    for use in (PostgresDatabase.open, PostgresDatabase.create, PostgresDatabase.upgrade):
        with pytest.raises(SchemaTooNewError, match="upgrade expertbank"):
            use(place)
    assert place.revision() == "9999"
