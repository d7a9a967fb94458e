"""Copies of the database file, and one file in the place of another; each whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from datetime import datetime, timezone
from pathlib import Path

from expertbank.errors import ExistsError, ExpertBankError
from expertbank.files.durable import name_new, os_errors_translated, sync_file, sync_folder
from expertbank.registry.sqlite.connection import outside_transaction


def copy_to(path: Path, target: Path) -> Path:
    """Write a consistent, compact copy of the database at ``path`` to ``target``.

    The copy appears under its name only when it is complete and on disk.

    Raises:
        ExistsError: ``target`` exists; it is left as it is.
        ExpertBankError: it cannot be written.
    """
    if os.path.lexists(target):
        raise _taken(target)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except OSError as error:
        raise ExpertBankError(f"cannot write {target}: {error.strerror}") from error
    try:
        with outside_transaction(path, writes=target) as connection:
            connection.execute("PRAGMA query_only=OFF")  # it forbids VACUUM INTO another file
            connection.execute("VACUUM INTO ?", (str(partial),))
        sync_file(partial)
        name_new(partial, target)
        sync_folder(target.parent)
    except FileExistsError:
        raise _taken(target) from None
    except OSError as error:
        raise ExpertBankError(
            f"cannot write {target}: {error.strerror}; free space or check the disk"
        ) from error
    finally:
        for unfinished in (partial, journal_of(partial)):
            unfinished.unlink(missing_ok=True)
    return target


def _taken(target: Path) -> ExistsError:
    return ExistsError(f"{target} exists; name a file that does not")


def copy_bytes(path: Path, target: Path) -> Path:
    """Copy a damaged database byte for byte, with its journal.

    Raises:
        ExpertBankError: the disk refused.
    """
    for source, copy in ((path, target), (journal_of(path), journal_of(target))):
        if source.exists():
            with os_errors_translated(copy):
                shutil.copyfile(source, copy)
    return target


def backup_path(path: Path, state: str) -> Path:
    """Where a copy is kept beside ``path``: of a revision, or of what is ``damaged``."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%fZ")
    return path.with_name(f"{path.name}.{state}.{stamp}.backup")


def journal_of(path: Path) -> Path:
    """The rollback journal that SQLite keeps beside ``path`` during a transaction."""
    return path.with_name(f"{path.name}-journal")
