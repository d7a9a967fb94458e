"""Upgrading keeps every row or changes nothing."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import expertbank_migrations
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, event

from expertbank.errors import ExpertBankError, IntegrityError, NotFoundError
from expertbank.registry import schema
from expertbank.registry.location import Upgrade
from expertbank.registry.sqlite.connection import engine_at
from expertbank.registry.sqlite.file import SqliteFile
from expertbank.testing.bank_rows import run

REVISION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{next}", "{head}"


def upgrade():
    with op.batch_alter_table("experts", recreate="always") as batch:
        batch.add_column(sa.Column("note", sa.Text(), nullable=True))
    op.execute("UPDATE experts SET note = 'upgraded'")
{extra}
"""


def dump(path: Path) -> list[str]:
    with sqlite3.connect(path) as raw:
        return list(raw.iterdump())


def rows_of(path: Path) -> dict[str, int]:
    with sqlite3.connect(path) as raw:
        tables = [
            row[0] for row in raw.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        return {t: raw.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables}


ASSETS = Path(__file__).parents[1] / "assets"
READING = {"reading": ("boolq",)}
NEXT = f"{int(schema.HEAD) + 1:04}"
ROWS = {
    "alembic_version": 1,
    "alias_events": 3,
    "aliases": 2,
    "artifacts": 15,
    "backbones": 1,
    "evaluations": 7,
    "experts": 3,
    "exports": 1,
    "feature_sets": 3,
    "router_members": 4,
    "routers": 2,
    "runs": 5,
    "tasks": 2,
}
"""Rows of every frozen bank before 0005, by table."""
NEW_ROWS = {"statistics": 0, "banks": 1}
"""Tables that came since, with what an upgrade puts into them."""
HEAD_ROWS = {**ROWS, "statistics": 3, "artifacts": 18, "banks": 1}


@pytest.fixture
def next_revision(tmp_path, monkeypatch):
    """Pretend that this program has a further revision, which rebuilds ``experts``."""

    def pretend(extra: str = "    pass") -> None:
        folder = tmp_path / "expertbank_migrations"
        shutil.copytree(expertbank_migrations.__path__[0], folder)
        content = REVISION.format(extra=extra, next=NEXT, head=schema.HEAD)
        (folder / "versions" / f"{NEXT}_next.py").write_text(content)

        def config(connection=None) -> Config:
            made = Config()
            made.set_main_option("script_location", str(folder))
            made.attributes["connection"] = connection
            return made

        monkeypatch.setattr(schema, "alembic_config", config)
        monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, NEXT))
        monkeypatch.setattr(schema, "HEAD", NEXT)

    return pretend


def test_a_bank_of_0_1_opens_with_all_its_rows(old_bank) -> None:
    SqliteFile(old_bank).upgrade()
    registry = SqliteFile(old_bank).open()
    assert registry.check() == ()
    assert registry.backbone().reference == "tiny"
    assert [expert.id for expert in registry.experts()] == ["boolq@1", "boolq@2", "sst2@1"]
    assert registry.expert("boolq@2").labels == ("false", "true", "unsure")
    assert [router.members for router in registry.routers()] == [
        ("boolq@1", "sst2@1"),
        ("boolq@2", "sst2@1"),
    ]
    assert registry.router("stable").version == 1
    assert rows_of(old_bank) == {**ROWS, **NEW_ROWS}


def content_of(path: Path, columns: dict[str, list[str]]) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the named columns, table by table."""
    with sqlite3.connect(path) as raw:
        return {
            table: raw.execute(
                f"SELECT {', '.join(names)} FROM {table} ORDER BY {', '.join(names)}"
            ).fetchall()
            for table, names in columns.items()
            if table != "alembic_version"
        }


def columns_of(path: Path) -> dict[str, list[str]]:
    with sqlite3.connect(path) as raw:
        return {
            table: [row[1] for row in raw.execute(f"PRAGMA table_info({table})")]
            for table in rows_of(path)
        }


@pytest.mark.parametrize("revision", schema.REVISIONS[:-1])
def test_upgrading_from_any_revision_keeps_every_value_of_every_row(tmp_path, revision) -> None:
    bank = tmp_path / "registry.db"
    shutil.copyfile(ASSETS / f"registry_{revision}.db", bank)
    columns = columns_of(bank)
    before = content_of(bank, columns)
    counts = ROWS if revision < "0005" else {**ROWS, "statistics": 3, "artifacts": 18}
    assert sum(map(len, before.values())) == sum(counts.values()) - counts["alembic_version"]
    SqliteFile(bank).upgrade()
    assert content_of(bank, columns) == before
    registry = SqliteFile(bank).open()
    assert registry.check() == ()


def test_a_task_of_a_bank_before_groups_stands_alone(old_bank) -> None:
    SqliteFile(old_bank).upgrade()
    registry = SqliteFile(old_bank).open()
    assert {task.name: task.group for task in registry.tasks()} == {"boolq": None, "sst2": None}


def test_since_0004_every_router_has_the_groups_that_its_tasks_had_for_ever(tmp_path) -> None:
    for revision, groups in (("0001", {}), ("0002", READING), ("0003", READING), ("0004", READING)):
        bank = tmp_path / f"{revision}.db"
        shutil.copyfile(ASSETS / f"registry_{revision}.db", bank)
        SqliteFile(bank).upgrade()
        with SqliteFile(bank).open() as registry:
            assert [router.groups for router in registry.routers()] == [groups, groups], revision
            registry.set_group(["sst2", "boolq"], "texts", run("group"))
            assert [router.groups for router in registry.routers()] == [groups, groups], revision
            assert {task.group for task in registry.tasks()} == {"texts"}
            assert registry.check() == ()


def test_since_0003_the_database_takes_a_kind_that_it_never_heard_of(old_bank) -> None:
    add = """INSERT INTO tasks (name, kind, labels, spec, created_at, removals)
        VALUES ('new' || ?1, ?1, '[]', '{}', '', 0)"""
    with sqlite3.connect(old_bank) as raw, pytest.raises(sqlite3.IntegrityError, match="kind"):
        raw.execute(add, ("span",))
    SqliteFile(old_bank).upgrade()
    with sqlite3.connect(old_bank) as raw:
        raw.execute(add, ("span",))
        with pytest.raises(sqlite3.IntegrityError, match="kind_not_empty"):
            raw.execute(add, ("",))


def test_a_bank_at_head_opens_with_its_groups(head_bank) -> None:
    SqliteFile(head_bank).upgrade()
    registry = SqliteFile(head_bank).open()
    assert registry.check() == ()
    assert rows_of(head_bank) == HEAD_ROWS
    assert {task.name: task.group for task in registry.tasks()} == {
        "boolq": "reading",
        "sst2": None,
    }


def test_the_groups_can_be_taken_back_and_every_other_value_stays(head_bank) -> None:
    columns = columns_of(ASSETS / "registry_0001.db")
    before = content_of(head_bank, columns)
    engine = engine_at(head_bank, foreign_keys=False)
    with engine.begin() as connection:
        command.downgrade(schema.alembic_config(connection), "0001")
    assert SqliteFile(head_bank).revision() == "0001"
    assert columns_of(head_bank) == columns
    assert content_of(head_bank, columns) == before
    with pytest.raises(ExpertBankError, match="db upgrade"):
        SqliteFile(head_bank).open()
    SqliteFile(head_bank).upgrade()
    assert SqliteFile(head_bank).open().check() == ()


def test_a_bank_at_head_is_left_alone(head_bank) -> None:
    before = head_bank.read_bytes()
    assert SqliteFile(head_bank).upgrade() == Upgrade(schema.HEAD, schema.HEAD, None)
    assert head_bank.read_bytes() == before
    assert len(list(head_bank.parent.iterdir())) == 1


def test_nothing_to_upgrade_is_not_found(tmp_path) -> None:
    with pytest.raises(NotFoundError):
        SqliteFile(tmp_path / "none.db").upgrade()
    assert list(tmp_path.iterdir()) == []


def test_an_upgrade_keeps_all_rows_puts_triggers_back_and_leaves_a_backup(
    old_bank, next_revision
) -> None:
    next_revision()
    before, counts = dump(old_bank), rows_of(old_bank)
    upgrade = SqliteFile(old_bank).upgrade()
    assert (upgrade.before, upgrade.after) == ("0001", NEXT)
    assert rows_of(old_bank) == {**counts, **NEW_ROWS}
    assert dump(upgrade.backup) == before
    assert upgrade.backup.parent == old_bank.parent
    registry = SqliteFile(old_bank).open()
    assert registry.check() == ()
    with sqlite3.connect(old_bank) as raw:
        assert raw.execute("SELECT DISTINCT note FROM experts").fetchall() == [("upgraded",)]
        with pytest.raises(sqlite3.IntegrityError, match="cannot be changed"):
            raw.execute("UPDATE experts SET note = 'again'")


def test_an_upgrade_can_leave_the_backup_out(old_bank, next_revision) -> None:
    next_revision()
    assert SqliteFile(old_bank).upgrade(backup=False).backup is None
    assert not list(old_bank.parent.glob("*.backup"))


def test_a_failing_migration_changes_nothing(old_bank, next_revision) -> None:
    next_revision("    raise RuntimeError('halfway')")
    before = dump(old_bank)
    with pytest.raises(RuntimeError, match="halfway"):
        SqliteFile(old_bank).upgrade()
    assert dump(old_bank) == before
    assert SqliteFile(old_bank).revision() == "0001"


def test_an_upgrade_that_fails_leaves_no_backup_of_what_is_still_there(
    old_bank, next_revision
) -> None:
    next_revision("    raise RuntimeError('halfway')")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="halfway"):
            SqliteFile(old_bank).upgrade()
    assert not list(old_bank.parent.glob("*.backup"))


def test_of_two_upgrades_at_once_the_later_one_changes_and_copies_nothing(
    head_bank, monkeypatch
) -> None:
    monkeypatch.setattr(SqliteFile, "revision", lambda _: "0001")  # before the other was done
    assert SqliteFile(head_bank).upgrade() == Upgrade(schema.HEAD, schema.HEAD, None)
    assert list(head_bank.parent.iterdir()) == [head_bank]


def test_an_interrupt_while_a_table_is_rebuilt_changes_nothing_and_stays_one(
    old_bank, next_revision
) -> None:
    next_revision()
    before = dump(old_bank)

    def interrupted(cursor, statement, parameters, context) -> None:
        if statement.startswith("INSERT INTO _alembic_tmp_experts"):
            raise KeyboardInterrupt

    event.listen(Engine, "do_execute", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            SqliteFile(old_bank).upgrade()
    finally:
        event.remove(Engine, "do_execute", interrupted)
    assert dump(old_bank) == before
    assert SqliteFile(old_bank).upgrade().after == NEXT


def test_a_migration_that_breaks_lineage_changes_nothing(old_bank, next_revision) -> None:
    next_revision("    op.execute('DELETE FROM runs WHERE id = 1')")
    before = dump(old_bank)
    with pytest.raises(IntegrityError, match="nothing was changed"):
        SqliteFile(old_bank).upgrade()
    assert dump(old_bank) == before


def test_a_new_bank_gets_every_revision(tmp_path, next_revision) -> None:
    next_revision()
    registry = SqliteFile(tmp_path / "fresh.db").create()
    assert registry.check() == ()
    assert SqliteFile(registry.path).revision() == NEXT
