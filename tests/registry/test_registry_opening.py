from __future__ import annotations

import hashlib
import random
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from expertbank.errors import (
    ExistsError,
    ExpertBankError,
    IntegrityError,
    LockedError,
    NotFoundError,
    SchemaTooNewError,
)
from expertbank.registry import schema
from expertbank.registry.sqlite import connection as connections
from expertbank.registry.sqlite import copying
from expertbank.registry.sqlite.file import SqliteFile
from expertbank.testing.bank_rows import expert_parts, known


def state_of(path: Path) -> tuple[str, list[str]]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return digest, sorted(p.name for p in path.parent.iterdir())


def test_create_makes_folders_and_opens_what_exists(tmp_path) -> None:
    path = tmp_path / "a b" / "q?#%41é" / "registry.db"
    SqliteFile(path).create().close()
    assert SqliteFile(path).create().check() == ()
    assert [p.name for p in path.parent.iterdir()] == ["registry.db"]


def test_create_fills_an_empty_file(path) -> None:
    path.touch()
    with pytest.raises(NotFoundError):
        SqliteFile(path).open()
    assert SqliteFile(path).create().check() == ()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"not a database at all, only text\n" * 50, id="text"),
        pytest.param(random.Random(0).randbytes(9000), id="noise"),
    ],
)
def test_a_file_that_is_no_database_is_refused_and_untouched(path, content) -> None:
    path.write_bytes(content)
    for use in (SqliteFile.open, SqliteFile.create, SqliteFile.upgrade):
        with pytest.raises(IntegrityError, match="not a SQLite database"):
            use(SqliteFile(path))
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused_and_untouched(path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE bookmarks (id)")
    before = state_of(path)
    for use in (SqliteFile.open, SqliteFile.create, SqliteFile.upgrade):
        with pytest.raises(IntegrityError, match="another program"):
            use(SqliteFile(path))
    assert state_of(path) == before


def test_a_newer_schema_is_refused_and_untouched(full, path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    before = state_of(path)
    for use in (SqliteFile.open, SqliteFile.create, SqliteFile.upgrade):
        with pytest.raises(SchemaTooNewError, match="upgrade expertbank") as caught:
            use(SqliteFile(path))
        assert caught.value.exit_code == 12
    assert state_of(path) == before


def test_an_older_schema_is_refused_with_the_command_to_run(full, path, monkeypatch) -> None:
    monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, "next"))
    monkeypatch.setattr(schema, "HEAD", "next")
    with pytest.raises(ExpertBankError, match="run: expertbank db upgrade"):
        SqliteFile(path).open()


def test_a_file_in_a_folder_that_cannot_be_written_is_read_and_left_as_it_is(full, path) -> None:
    before = state_of(path)
    modified = path.stat().st_mtime_ns
    path.chmod(stat.S_IRUSR)
    path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        registry = SqliteFile(path).open(read_only=True)
        assert known(registry) == known(full)
        assert registry.check() == ()
        with pytest.raises(ExpertBankError, match="read-only"):
            registry.commit_expert(**expert_parts("new"))
        with pytest.raises(ExpertBankError, match="read-only"):
            registry.probe_writable()
    finally:
        path.parent.chmod(0o755)
    assert state_of(path) == before
    assert path.stat().st_mtime_ns == modified


def test_reading_leaves_the_file_as_it_is(full, path) -> None:
    before = state_of(path)
    full.history()
    full.check()
    full.probe_writable()
    assert state_of(path) == before


def test_the_connection_is_set_up_for_durability(full) -> None:
    with connections.outside_transaction(full.path, mode="rw") as connection:
        pragmas = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                "journal_mode",
                "synchronous",
                "foreign_keys",
                "busy_timeout",
                "trusted_schema",
            )
        }
        assert connection.isolation_level is None
    assert pragmas == {
        "journal_mode": "delete",
        "synchronous": 3,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
        "trusted_schema": 0,
    }


def test_a_held_lock_is_said_to_be_one(full, path, monkeypatch) -> None:
    monkeypatch.setattr(connections, "BUSY_MS", 50)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        for ask in (full.probe_writable, full.tasks, full.check, lambda: SqliteFile(path).open()):
            with pytest.raises(LockedError, match="another process") as caught:
                ask()
            assert caught.value.exit_code == 11
    finally:
        other.close()
    assert full.check() == ()


def test_a_full_disk_is_said_to_be_one_and_nothing_is_half_written(full, path, monkeypatch) -> None:
    from sqlalchemy import event

    before = full.artifacts()
    pages = sqlite3.connect(path).execute("PRAGMA page_count").fetchone()[0]

    @event.listens_for(full.engine, "connect")
    def no_more_pages(connection, _record) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    def fill() -> None:
        for number in range(200):
            full.commit_expert(**expert_parts(f"task{number}"))

    with pytest.raises(ExpertBankError, match="no space left"):
        fill()
    registry = SqliteFile(path).open()
    assert registry.check() == ()
    assert set(before) <= set(registry.artifacts())


def test_a_backup_is_a_whole_registry(full, tmp_path) -> None:
    target = full.backup(tmp_path / "copy.db")
    copy = SqliteFile(target).open()
    assert copy.check() == ()
    assert known(copy) == known(full)


def test_a_backup_never_overwrites(full, tmp_path) -> None:
    target = tmp_path / "precious"
    target.write_text("keep")
    with pytest.raises(ExistsError, match="exists"):
        full.backup(target)
    assert target.read_text() == "keep"
    with pytest.raises(ExpertBankError, match="cannot write"):
        full.backup(tmp_path / "missing" / "copy.db")


def test_a_backup_has_its_name_only_when_it_is_whole(full, tmp_path, monkeypatch) -> None:
    target, seen = tmp_path / "copy.db", []
    real = copying.sync_file
    monkeypatch.setattr(
        copying, "sync_file", lambda part: seen.append(target.exists()) or real(part)
    )
    full.backup(target)
    assert seen == [False]
    assert SqliteFile(target).open().check() == ()
    assert not list(tmp_path.glob(".copy.db.*"))


def test_a_backup_goes_to_a_disk_without_links_and_never_over_another_file(
    full, tmp_path, monkeypatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    def taken(_: object, target: Path) -> None:
        target.write_text("keep")
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(copying.os, "link", refuse)
    assert SqliteFile(full.backup(tmp_path / "copy.db")).open().check() == ()
    monkeypatch.setattr(copying.os, "link", taken)
    with pytest.raises(ExistsError, match="exists"):
        full.backup(tmp_path / "late.db")
    assert (tmp_path / "late.db").read_text() == "keep"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".late")]


def test_a_folder_in_the_place_of_the_file_is_said_to_be_one(tmp_path) -> None:
    (tmp_path / "registry.db").mkdir()
    with pytest.raises(IntegrityError, match="is a folder where the registry's file should be"):
        SqliteFile(tmp_path / "registry.db").open()


def test_opening_imports_neither_alembic_nor_torch(full, path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from expertbank.registry.sqlite.file import SqliteFile\n"
        "registry = SqliteFile(Path(sys.argv[1])).open()\nregistry.members()\nregistry.check()\n"
        "heavy = {'alembic', 'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)
