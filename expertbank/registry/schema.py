"""Creating and upgrading the database, always from the migrations of the installed package.

Alembic is imported only to create or upgrade. Opening compares one row with ``HEAD``.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from expertbank.durable import sync_file, sync_folder
from expertbank.errors import (
    ExistsError,
    ExpertBankError,
    IntegrityError,
    NotFoundError,
    SchemaTooNewError,
)
from expertbank.registry.session import engine_at, outside_transaction, translated

if TYPE_CHECKING:
    from alembic.config import Config

REVISIONS = ("0001", "0002", "0003")
"""Every revision this program knows, oldest first; a test compares it with the migrations."""
HEAD = REVISIONS[-1]

# Alembic keeps its environment in module globals, so one migration runs at a time.
_ALEMBIC = threading.Lock()


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What ``upgrade`` did: revisions before and after, and where the backup lies."""

    before: str | None
    after: str
    backup: Path | None


def head_revision() -> str:
    """The revision this program reads and writes."""
    return HEAD


def current_revision(path: Path) -> str | None:
    """Revision of the database at ``path``; ``None`` when it is missing or empty.

    Raises:
        IntegrityError: not a SQLite database, or one of another program.
    """
    if not path.exists():
        return None
    engine = engine_at(path, mode="ro").execution_options(registry_begin="DEFERRED")
    with translated(engine), engine.connect() as connection:
        return _revision(connection, path)


def require_head(path: Path) -> None:
    """Refuse a database that this program cannot use as it is. Nothing is written.

    Raises:
        NotFoundError: there is no registry.
        SchemaTooNewError: a newer expertbank wrote it.
        ExpertBankError: an older expertbank wrote it and it was not upgraded.
        IntegrityError: not a SQLite database, or one of another program.
    """
    revision = current_revision(path)
    if revision is None:
        raise NotFoundError(f"no registry at {path}; run: expertbank init, or check --home")
    refuse_newer(revision, path)
    if revision != HEAD:
        raise ExpertBankError(
            f"{path} has schema {revision}, this expertbank needs {HEAD}; "
            "run: expertbank db upgrade"
        )


def create(path: Path) -> None:
    """Make the registry if there is none; safe when several processes do so at once.

    A registry that exists is left alone, whatever its revision: ``require_head`` judges it.

    Raises:
        IntegrityError: the file is something else.
        LockedError: another process kept the file locked.
    """
    if current_revision(path) is not None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = engine_at(path, mode="rwc", foreign_keys=False)
    with translated(engine), engine.begin() as connection:
        # Asked again under the write lock: another process may have been faster.
        if _revision(connection, path) is None:
            _migrate(connection)


def upgrade(path: Path, *, backup: bool = True) -> Upgrade:
    """Bring an existing registry to ``HEAD`` in one transaction.

    Args:
        path: the database file.
        backup: first write a copy beside it; it holds the state the upgrade started from,
            since the write lock is already held.

    Raises:
        NotFoundError: there is no registry.
        SchemaTooNewError: a newer expertbank wrote it; nothing was written.
        IntegrityError: the upgraded rows would contradict each other; nothing was changed.
    """
    before = current_revision(path)
    if before is None:
        raise NotFoundError(f"no registry at {path}; run: expertbank init, or check --home")
    refuse_newer(before, path)
    if before == HEAD:
        return Upgrade(before, HEAD, None)
    engine = engine_at(path, foreign_keys=False)
    with translated(engine), engine.begin() as connection:
        before = _revision(connection, path)
        copy = copy_to(path, _backup_path(path, before)) if backup else None
        _migrate(connection)
        broken = connection.execute(text("PRAGMA foreign_key_check")).all()
        if broken:
            raise IntegrityError(
                f"upgrading {path} would leave {len(broken)} rows without what they refer to "
                f"(first: table {broken[0][0]}); nothing was changed, keep the file and report it"
            )
    return Upgrade(before, HEAD, copy)


def copy_to(path: Path, target: Path) -> Path:
    """Write a consistent, compact copy of the database at ``path`` to ``target``.

    The copy appears under its name only when it is complete and on disk.

    Raises:
        ExistsError: ``target`` exists; it is left as it is.
    """
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        raise ExistsError(f"{target} exists; name a file that does not") from None
    except OSError as error:
        raise ExpertBankError(f"cannot write {target}: {error.strerror}") from error
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with outside_transaction(engine_at(path, mode="ro")) as connection:
            connection.execute("PRAGMA query_only=OFF")  # it forbids VACUUM INTO another file
            connection.execute("VACUUM INTO ?", (str(partial),))
        sync_file(partial)
        os.replace(partial, target)
        sync_folder(target.parent)
    except BaseException as error:
        for unfinished in (partial, partial.with_name(f"{partial.name}-journal"), target):
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ExpertBankError(
                f"cannot write {target}: {error.strerror}; free space or check the disk"
            ) from error
        raise
    return target


def refuse_newer(revision: str, path: Path) -> None:
    """Refuse a revision this program does not know.

    Raises:
        SchemaTooNewError: always in that case.
    """
    if revision not in REVISIONS:
        raise SchemaTooNewError(
            f"{path} has schema {revision}, this expertbank knows up to {HEAD}; "
            "nothing was written; upgrade expertbank"
        )


def counts(path: Path, tables: Sequence[str]) -> dict[str, int]:
    """Numbers of rows of the registry at ``path``, whatever its revision.

    Args:
        path: the database file.
        tables: names of tables, from this program and never from a user.
    """
    engine = engine_at(path, mode="ro").execution_options(registry_begin="DEFERRED")
    with translated(engine), engine.connect() as connection:
        return {
            table: int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)  # noqa: S608
            for table in tables
        }


def artifact_digests(path: Path) -> set[str]:
    """Digests of the files that the database at ``path``, of any revision, counts on.

    Raises:
        IntegrityError: not a registry, or damaged.
    """
    engine = engine_at(path, mode="ro").execution_options(registry_begin="DEFERRED")
    with translated(engine), engine.connect() as connection:
        if _revision(connection, path) is None:
            raise IntegrityError(f"{path} holds no registry")
        query = text("SELECT digest FROM artifacts WHERE purged_at IS NULL")
        return set(connection.scalars(query))


def store_url(path: Path) -> str | None:
    """URL of the store that the database at ``path``, of any revision, keeps its files in.

    Returns:
        ``None`` for the bank's own folder, and before a bank has a backbone.

    Raises:
        IntegrityError: not a database, or damaged.
    """
    engine = engine_at(path, mode="ro").execution_options(registry_begin="DEFERRED")
    with translated(engine), engine.connect() as connection:
        columns = connection.execute(text("PRAGMA table_info(backbones)")).all()
        if "store" not in {column[1] for column in columns}:
            return None
        found = connection.scalar(text("SELECT store FROM backbones"))
        return None if found is None else str(found)


def integrity(connection: Connection) -> list[str]:
    """Complaints of SQLite's own checks: pages, indexes, constraints and foreign keys."""
    pages = connection.execute(text("PRAGMA integrity_check")).scalars().all()
    broken = connection.execute(text("PRAGMA foreign_key_check")).all()
    found = [line for line in pages if line != "ok"]
    return found + [f"row {row[1]} of {row[0]} refers to a missing {row[2]}" for row in broken]


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's settings for the installed migrations, without an ini file."""
    from alembic.config import Config

    config = Config()
    location = str(resources.files("expertbank_migrations"))
    config.set_main_option("script_location", location.replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _migrate(connection: Connection) -> None:
    from alembic import command

    with _ALEMBIC:
        command.upgrade(alembic_config(connection), "head")


def _revision(connection: Connection, path: Path) -> str | None:
    tables = set(connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'")))
    if not tables:
        return None
    if not {"alembic_version", "experts"} <= tables:
        raise IntegrityError(f"{path} is a database of another program; check --home")
    revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if revision is None else str(revision)


def _backup_path(path: Path, revision: str | None) -> Path:
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%fZ")
    return path.with_name(f"{path.name}.{revision}.{stamp}.backup")
