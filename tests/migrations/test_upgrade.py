"""Upgrading keeps every row or changes nothing."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import expertbank_migrations
import pytest
from alembic.config import Config

from expertbank.errors import IntegrityError, NotFoundError
from expertbank.registry import schema
from expertbank.registry.registry import Registry

REVISION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


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


@pytest.fixture
def next_revision(tmp_path, monkeypatch):
    """Pretend that this program has a revision 0002, which rebuilds ``experts``."""

    def pretend(extra: str = "    pass") -> None:
        folder = tmp_path / "expertbank_migrations"
        shutil.copytree(expertbank_migrations.__path__[0], folder)
        (folder / "versions" / "0002_next.py").write_text(REVISION.format(extra=extra))

        def config(connection=None) -> Config:
            made = Config()
            made.set_main_option("script_location", str(folder))
            made.attributes["connection"] = connection
            return made

        monkeypatch.setattr(schema, "alembic_config", config)
        monkeypatch.setattr(schema, "REVISIONS", ("0001", "0002"))
        monkeypatch.setattr(schema, "HEAD", "0002")

    return pretend


def test_a_bank_of_0_1_opens_with_all_its_rows(old_bank) -> None:
    schema.upgrade(old_bank)
    registry = Registry.open(old_bank)
    assert registry.check() == ()
    assert registry.backbone().reference == "tiny"
    assert [expert.id for expert in registry.experts()] == ["boolq@1", "boolq@2", "sst2@1"]
    assert registry.expert("boolq@2").labels == ("false", "true", "unsure")
    assert [router.members for router in registry.routers()] == [
        ("boolq@1", "sst2@1"),
        ("boolq@2", "sst2@1"),
    ]
    assert registry.router("stable").version == 1
    assert rows_of(old_bank) == {
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


def test_a_bank_at_head_is_left_alone(old_bank) -> None:
    before = old_bank.read_bytes()
    assert schema.upgrade(old_bank) == schema.Upgrade("0001", "0001", None)
    assert old_bank.read_bytes() == before
    assert len(list(old_bank.parent.iterdir())) == 1


def test_nothing_to_upgrade_is_not_found(tmp_path) -> None:
    with pytest.raises(NotFoundError):
        schema.upgrade(tmp_path / "none.db")
    assert list(tmp_path.iterdir()) == []


def test_an_upgrade_keeps_all_rows_puts_triggers_back_and_leaves_a_backup(
    old_bank, next_revision
) -> None:
    next_revision()
    before, counts = dump(old_bank), rows_of(old_bank)
    upgrade = schema.upgrade(old_bank)
    assert (upgrade.before, upgrade.after) == ("0001", "0002")
    assert rows_of(old_bank) == counts
    assert dump(upgrade.backup) == before
    assert upgrade.backup.parent == old_bank.parent
    registry = Registry.open(old_bank)
    assert registry.check() == ()
    with sqlite3.connect(old_bank) as raw:
        assert raw.execute("SELECT DISTINCT note FROM experts").fetchall() == [("upgraded",)]
        with pytest.raises(sqlite3.IntegrityError, match="cannot be changed"):
            raw.execute("UPDATE experts SET note = 'again'")


def test_an_upgrade_can_leave_the_backup_out(old_bank, next_revision) -> None:
    next_revision()
    assert schema.upgrade(old_bank, backup=False).backup is None
    assert not list(old_bank.parent.glob("*.backup"))


def test_a_failing_migration_changes_nothing(old_bank, next_revision) -> None:
    next_revision("    raise RuntimeError('halfway')")
    before = dump(old_bank)
    with pytest.raises(RuntimeError, match="halfway"):
        schema.upgrade(old_bank)
    assert dump(old_bank) == before
    assert schema.current_revision(old_bank) == "0001"


def test_a_migration_that_breaks_lineage_changes_nothing(old_bank, next_revision) -> None:
    next_revision("    op.execute('DELETE FROM runs WHERE id = 1')")
    before = dump(old_bank)
    with pytest.raises(IntegrityError, match="nothing was changed"):
        schema.upgrade(old_bank)
    assert dump(old_bank) == before


def test_a_new_bank_gets_every_revision(tmp_path, next_revision) -> None:
    next_revision()
    registry = Registry.create(tmp_path / "fresh.db")
    assert registry.check() == ()
    assert schema.current_revision(registry.path) == "0002"
