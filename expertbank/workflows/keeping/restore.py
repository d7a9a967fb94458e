"""``db restore``: put an earlier database in the place of the present one.

The file is copied, checked and upgraded beside the present database first; only then, with the
bank's lock held alone, the present one is kept as a backup and replaced in one rename.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from expertbank.artifacts.lock import LOCK_FILE, WAIT_SECONDS, BankLock
from expertbank.artifacts.rehash import rehash
from expertbank.artifacts.store import ArtifactStore
from expertbank.errors import ExpertBankError, IntegrityError, NotFoundError
from expertbank.files.durable import os_errors_translated
from expertbank.records import ProgressCallback, ProgressEvent, no_progress
from expertbank.registry import schema
from expertbank.registry.sqlite.file import SqliteFile
from expertbank.workflows.home import FolderHome

_SQLITE = b"SQLite format 3\0"


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
    with os_errors_translated(source), source.open("rb") as file:
        if file.read(len(_SQLITE)) not in {b"", _SQLITE}:
            raise IntegrityError(
                f"{source} is not a SQLite database; name a file that db backup wrote"
            )
    wanted, present = SqliteFile(source), FolderHome(home).location
    if source.resolve() == present.path.resolve():
        raise ExpertBankError(f"{source} is the present database; name a backup of it")
    found = wanted.revision()
    if found is None:
        raise IntegrityError(f"{source} holds no registry")
    revision = schema.require_known(found, source)
    store = FolderHome(home).store(wanted.store_url())
    _check_files(wanted, store, progress)
    if dry_run:
        return _result(source, wanted, revision, None, dry_run=True)
    fresh = SqliteFile(home / f".tmp-{secrets.token_hex(8)}")
    try:
        wanted.copy_to(fresh.path)
        fresh.upgrade(backup=False)
        with fresh.open(read_only=True) as registry:
            problems = registry.check()
        if problems:
            first = problems[0]
            raise IntegrityError(
                f"{source} is not sound: {first.where}: {first.what}; nothing was changed"
            )
        with BankLock(home / LOCK_FILE, lock_wait).exclusive():
            # Asked again: until now gc may have deleted a file.
            _check_files(wanted, store, progress)
            result = _result(source, fresh, revision, None, dry_run=False)
            result = replace(result, backup=present.replace_by(fresh))
            told = f"the database was replaced by {source}"
            progress(ProgressEvent("restoring", 1, 1, lasting=told))
            return result
    finally:
        fresh.path.unlink(missing_ok=True)


def _check_files(source: SqliteFile, store: ArtifactStore, progress: ProgressCallback) -> None:
    digests = sorted(source.artifact_digests())

    def done(number: int) -> None:
        progress(ProgressEvent("rehashing artifacts", number, len(digests)))

    missing = [one.digest for one in rehash(store, digests, done) if one.error is not None]
    if missing:
        raise IntegrityError(
            f"{source.path} names {len(missing)} files that {store.location} does not hold as they "
            f"were (first: {missing[0]}); copy the objects/ folder that belongs to it back first"
        )


def _result(
    source: Path, database: SqliteFile, revision: str, backup: Path | None, *, dry_run: bool
) -> Restored:
    counts = database.counts(("experts", "routers"))
    return Restored(source, revision, counts["experts"], counts["routers"], backup, dry_run)
