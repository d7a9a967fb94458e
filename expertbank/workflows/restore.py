"""``db restore``: put an earlier database in the place of the present one.

The file is copied, checked and upgraded beside the present database first; only then, with the
bank's lock held alone, the present one is kept as a backup and replaced in one rename.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from expertbank.artifacts.lock import LOCK_FILE, WAIT_SECONDS, BankLock
from expertbank.artifacts.rehash import rehash
from expertbank.artifacts.store import ArtifactStore
from expertbank.durable import sync_folder
from expertbank.errors import ExpertBankError, IntegrityError, LockedError, NotFoundError
from expertbank.records import ProgressCallback, ProgressEvent, no_progress
from expertbank.registry import schema
from expertbank.registry.registry import Registry
from expertbank.workflows.workspace import DATABASE, store_at


@dataclass(frozen=True, slots=True)
class Restored:
    """What restoring did, or would do.

    Attributes:
        source: the file that was restored.
        revision: the schema that it had; it is upgraded on the way in.
        experts: how many experts it knows.
        routers: how many routers it knows.
        backup: where the database that was there lies now; ``None`` in a dry run, or when there
            was none.
        dry_run: whether only a look was asked for.
    """

    source: Path
    revision: str
    experts: int
    routers: int
    backup: Path | None
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "source": str(self.source),
            "revision": self.revision,
            "experts": self.experts,
            "routers": self.routers,
            "backup": None if self.backup is None else str(self.backup),
            "dry_run": self.dry_run,
        }


def restore(
    home: Path,
    source: Path,
    *,
    dry_run: bool = False,
    lock_wait: float = WAIT_SECONDS,
    progress: ProgressCallback = no_progress,
) -> Restored:
    """Replace the database of the bank at ``home`` by the one in ``source``.

    The bank may be without a database, or have a damaged one.

    Args:
        home: the bank's folder.
        source: a file that ``db backup`` or an upgrade wrote.
        dry_run: only check.
        lock_wait: seconds to wait for commands that write.
        progress: told as files are rehashed.

    Raises:
        NotFoundError: no such file, or no bank's folder.
        SchemaTooNewError: a newer expertbank wrote it; nothing was written.
        IntegrityError: not a registry, damaged, or it names files that are not in the store.
        LockedError: other commands kept writing for too long.
    """
    if not source.is_file():
        raise NotFoundError(f"there is no file {source}")
    if not home.is_dir():
        raise NotFoundError(f"there is no folder {home}; restore goes into a bank's own folder")
    if source.resolve() == (home / DATABASE).resolve():
        raise ExpertBankError(f"{source} is the present database; name a backup of it")
    revision = schema.current_revision(source)
    if revision is None:
        raise IntegrityError(f"{source} holds no registry")
    schema.refuse_newer(revision, source)
    store = store_at(home, schema.store_url(source))
    _check_files(source, store, progress)
    if dry_run:
        return _result(source, source, revision, None, dry_run=True)
    fresh = home / f".tmp-{secrets.token_hex(8)}"
    try:
        schema.copy_to(source, fresh)
        schema.upgrade(fresh, backup=False)
        with Registry.open(fresh, read_only=True) as registry:
            problems = registry.check()
        if problems:
            first = problems[0]
            raise IntegrityError(
                f"{source} is not sound: {first.where}: {first.what}; nothing was changed"
            )
        with BankLock(home / LOCK_FILE, lock_wait).exclusive():
            # Asked again: until now gc may have deleted a file.
            _check_files(source, store, progress)
            backup = _put_aside(home / DATABASE)
            result = _result(source, fresh, revision, backup, dry_run=False)
            os.replace(fresh, home / DATABASE)
            sync_folder(home)
            return result
    finally:
        fresh.unlink(missing_ok=True)


def _check_files(source: Path, store: ArtifactStore, progress: ProgressCallback) -> None:
    digests = sorted(schema.artifact_digests(source))

    def done(number: int) -> None:
        progress(ProgressEvent("rehashing artifacts", number, len(digests)))

    missing = [one.digest for one in rehash(store, digests, done) if one.error is not None]
    if missing:
        raise IntegrityError(
            f"{source} names {len(missing)} files that {store.location} does not hold as they "
            f"were (first: {missing[0]}); copy the objects/ folder that belongs to it back first"
        )


def _put_aside(database: Path) -> Path | None:
    """Keep the present database under another name; a damaged one byte for byte."""
    if not database.exists():
        return None
    journal = database.with_name(f"{database.name}-journal")
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%fZ")
    try:
        revision = schema.current_revision(database) or "empty"
        target = database.with_name(f"{database.name}.{revision}.{stamp}.backup")
        schema.copy_to(database, target)  # undoes what a killed writer left, so no journal stays
    except LockedError:
        raise
    except (ExpertBankError, sqlite3.Error):
        target = database.with_name(f"{database.name}.damaged.{stamp}.backup")
        for path in (database, journal):
            if path.exists():
                shutil.copyfile(
                    path, target.with_name(path.name.replace(database.name, target.name))
                )
    # A journal belongs to the database that goes: SQLite would play it into the one that comes.
    journal.unlink(missing_ok=True)
    sync_folder(database.parent)
    return target


def _result(
    source: Path, database: Path, revision: str, backup: Path | None, *, dry_run: bool
) -> Restored:
    counts = schema.counts(database, ("experts", "routers"))
    return Restored(source, revision, counts["experts"], counts["routers"], backup, dry_run)
