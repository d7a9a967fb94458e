"""The migrations make exactly the tables and triggers that the code expects."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import expertbank_migrations
from alembic.script import ScriptDirectory
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,  # noqa: F401
    test_single_head_revision,  # noqa: F401
    test_up_down_consistency,  # noqa: F401
    test_upgrade,  # noqa: F401
)

from expertbank.registry import schema
from expertbank.registry.sqlite import triggers
from expertbank.registry.sqlite.connection import engine_at
from expertbank.registry.sqlite.file import SqliteFile
from expertbank.registry.tables import Base


def master_of(path: Path) -> dict[str, str]:
    """Everything the database defines, by name, but Alembic's own table."""
    with sqlite3.connect(path) as raw:
        rows = raw.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: _sorted(sql) for name, sql in rows if name != "alembic_version"}


def _sorted(sql: str) -> str:
    # The order of columns counts, that of constraints does not: SQLite writes a column that was
    # added later behind them.
    if not sql.startswith("CREATE TABLE"):
        return " ".join(sql.split())
    head, _, body = sql.partition("(")
    parts, depth, start = [], 0, 0
    for place, sign in enumerate(body):
        depth += (sign == "(") - (sign == ")")
        if depth < 0 or (sign == "," and depth == 0):
            parts.append(" ".join(body[start:place].split()))
            start = place + 1
    constraints = sorted(part for part in parts if part.startswith("CONSTRAINT"))
    columns = [part for part in parts if not part.startswith("CONSTRAINT")]
    # A table that a migration rebuilt has its name in quotes.
    return "\n".join([head.strip().replace('"', ""), *columns, *constraints])


def test_a_migrated_database_has_exactly_our_tables_and_triggers(tmp_path) -> None:
    SqliteFile(tmp_path / "migrated.db").create()
    with engine_at(tmp_path / "declared.db", mode="rwc").begin() as connection:
        Base.metadata.create_all(connection)
        triggers.install(connection)
    migrated = master_of(tmp_path / "migrated.db")
    assert migrated == master_of(tmp_path / "declared.db")
    assert set(triggers.definitions()) <= set(migrated)
    assert "CONSTRAINT uq_experts_task_id_version UNIQUE (task_id, version)" in migrated["experts"]


def test_the_known_revisions_are_those_of_the_migrations() -> None:
    script = ScriptDirectory.from_config(schema.alembic_config())
    chain = [revision.revision for revision in script.walk_revisions()]
    assert tuple(reversed(chain)) == schema.REVISIONS
    assert script.get_current_head() == schema.HEAD


def test_every_revision_has_a_frozen_database() -> None:
    assets = Path(__file__).parents[1] / "assets"
    for revision in schema.REVISIONS:
        assert SqliteFile(assets / f"registry_{revision}.db").revision() == revision


def test_revisions_import_nothing_of_the_package() -> None:
    versions = Path(expertbank_migrations.__path__[0]) / "versions"
    for module in versions.glob("[0-9]*.py"):
        text = module.read_text(encoding="utf-8")
        assert "import expertbank" not in text
        assert "from expertbank" not in text
