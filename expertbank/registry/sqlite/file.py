"""The registry's SQLite file as a place: making, opening, upgrading, replacing it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from expertbank.errors import ExpertBankError, IntegrityError, LockedError
from expertbank.files.durable import sync_folder
from expertbank.registry import schema
from expertbank.registry.location import Upgrade
from expertbank.registry.sqlite import copying
from expertbank.registry.sqlite.connection import engine_at, reader_at
from expertbank.registry.sqlite.registry import SqliteRegistry


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A ``RegistryLocation`` that is one file, and what can be done with a file alone."""

    path: Path

    def describe(self) -> str:
        """The path."""
        return str(self.path)

    def exists(self) -> bool:
        """Whether the file holds a registry; a killed process may have left it empty."""
        return self.revision() is not None

    def open(self, *, read_only: bool = False) -> SqliteRegistry:
        """Open the registry; see ``RegistryLocation``."""
        schema.require_head(self.revision(), self.path)
        engine = engine_at(self.path, mode="ro" if read_only else "rw")
        return SqliteRegistry(self.path, engine, read_only=read_only)

    def create(self) -> SqliteRegistry:
        """Open the registry, making it first if there is none; see ``RegistryLocation``.

        A registry that exists is left alone, whatever its revision.
        """
        if self.revision() is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with engine_at(self.path, mode="rwc", foreign_keys=False).begin() as connection:
                # Asked again under the write lock: another process may have been faster.
                if schema.revision_of(connection, self.path) is None:
                    schema.migrate(connection)
        return self.open()

    def revision(self) -> str | None:
        """Revision of the database; ``None`` when it is missing or empty.

        Raises:
            IntegrityError: not a SQLite database, or one of another program.
        """
        if not self.path.exists():
            return None
        if self.path.is_dir():
            raise IntegrityError(
                f"{self.path} is a folder where the registry's file should be; check --home, or "
                "move the folder away and restore the file from a backup"
            )
        with reader_at(self.path).connect() as connection:
            return schema.revision_of(connection, self.path)

    def upgrade(self, *, backup: bool = True) -> Upgrade:
        """Bring the registry to this program's revision in one transaction.

        Args:
            backup: first write a copy beside it; it holds the state the upgrade started from,
                since the write lock is already held. If nothing is changed, none is left.

        Raises:
            NotFoundError: there is no registry.
            SchemaTooNewError: a newer expertbank wrote it; nothing was written.
            IntegrityError: the upgraded rows would contradict each other; nothing was changed.
        """
        before = schema.require_known(self.revision(), self.path)
        if before == schema.HEAD:
            return Upgrade(before, before, None)
        copy = None
        try:
            with engine_at(self.path, foreign_keys=False).begin() as connection:
                before = schema.require_known(schema.revision_of(connection, self.path), self.path)
                if before == schema.HEAD:  # another process was faster
                    return Upgrade(before, before, None)
                copy = self.copy_to(copying.backup_path(self.path, before)) if backup else None
                self._migrate(connection)
        except BaseException:
            if copy is not None and self._is_still(before):
                copy.unlink(missing_ok=True)
            raise
        return Upgrade(before, schema.HEAD, copy)

    def _migrate(self, connection: Connection) -> None:
        schema.migrate(connection)
        broken = connection.execute(text("PRAGMA foreign_key_check")).all()
        if broken:
            raise IntegrityError(
                f"upgrading {self.path} would leave {len(broken)} rows without what they "
                f"refer to (first: table {broken[0][0]}); nothing was changed, keep the file "
                "and report it"
            )

    def _is_still(self, revision: str) -> bool:
        """Whether the database is sound enough to say that it is of this revision."""
        with suppress(ExpertBankError, SQLAlchemyError):
            return self.revision() == revision
        return False

    def copy_to(self, target: Path) -> Path:
        """Write a consistent copy to ``target``.

        Raises:
            ExistsError: ``target`` exists; it is left as it is.
            ExpertBankError: it cannot be written.
        """
        return copying.copy_to(self.path, target)

    def replace_by(self, fresh: SqliteFile) -> Path | None:
        """Put ``fresh``, a file beside this one, in its place; the caller holds the bank's lock.

        Returns:
            where the database that was there is kept, if there was one: a damaged one byte for
            byte.
        """
        kept = self._put_aside() if self.path.exists() else None
        os.replace(fresh.path, self.path)
        sync_folder(self.path.parent)
        return kept

    def _put_aside(self) -> Path:
        try:
            target = copying.backup_path(self.path, self.revision() or "empty")
            self.copy_to(target)  # undoes what a killed writer left, so no journal stays
        except LockedError:
            raise
        except (ExpertBankError, sqlite3.Error):
            target = copying.copy_bytes(self.path, copying.backup_path(self.path, "damaged"))
        # A journal belongs to the database that goes: SQLite would play it into the one that comes.
        copying.journal_of(self.path).unlink(missing_ok=True)
        sync_folder(self.path.parent)
        return target

    def artifact_digests(self) -> set[str]:
        """Digests of the files that the database, of any revision, counts on.

        Raises:
            IntegrityError: not a registry, or damaged.
        """
        with reader_at(self.path).connect() as connection:
            if schema.revision_of(connection, self.path) is None:
                raise IntegrityError(f"{self.path} holds no registry")
            query = text("SELECT digest FROM artifacts WHERE purged_at IS NULL")
            return set(connection.scalars(query))

    def store_url(self) -> str | None:
        """URL of the store that the database, of any revision, keeps its files in.

        Returns:
            ``None`` for the bank's own folder, and before a bank has a backbone.
        """
        with reader_at(self.path).connect() as connection:
            columns = connection.execute(text("PRAGMA table_info(backbones)")).all()
            if "store" not in {column[1] for column in columns}:
                return None
            found = connection.scalar(text("SELECT store FROM backbones"))
            return None if found is None else str(found)

    def counts(self, tables: Sequence[str]) -> dict[str, int]:
        """Numbers of rows, whatever the revision.

        Args:
            tables: names of tables, from this program and never from a user.
        """
        with reader_at(self.path).connect() as connection:
            return {
                table: int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)  # noqa: S608
                for table in tables
            }
