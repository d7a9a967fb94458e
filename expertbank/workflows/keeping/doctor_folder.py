"""``doctor``: the disk, the SQLite file and the lock of a bank in a folder."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from expertbank.files.mounts import filesystem_of
from expertbank.registry.sqlite.copying import journal_of
from expertbank.workflows.home import DATABASE
from expertbank.workflows.keeping.findings import Finding

NETWORK_FILESYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs"}
LITTLE_SPACE, NO_SPACE = 1 << 30, 64 << 20


def looks(home: Path) -> Iterator[Finding]:
    """Everything about the folder that needs no registry."""
    yield _sqlite()
    if home.exists() and not home.is_dir():
        yield Finding("folder", "problem", f"{home} is no folder", "name another one: --home DIR")
        return
    yield from _filesystem(home)
    yield from space(home)
    yield from _writable(home)


def journal(home: Path) -> Iterator[Finding]:
    """Whether somebody writes, or died writing."""
    if journal_of(home / DATABASE).exists():
        yield Finding(
            "journal",
            "warning",
            "a transaction is under way, or its process died",
            "nothing: the next command undoes what is unfinished; never delete the file",
        )


def _sqlite() -> Finding:
    return Finding("sqlite", "ok", f"{sqlite3.sqlite_version}, with a rollback journal")


def _filesystem(home: Path) -> Iterator[Finding]:
    kind = filesystem_of(_existing(home))
    if kind is None:
        yield Finding("filesystem", "ok", "type not known on this platform")
    elif kind in NETWORK_FILESYSTEMS or kind.startswith("fuse.ssh"):
        yield Finding(
            "filesystem",
            "warning",
            f"{kind}, a network filesystem: SQLite's locks may not hold there",
            "keep the bank on a local disk and ship bundles instead (expertbank export)",
        )
    else:
        yield Finding("filesystem", "ok", kind)


def space(home: Path) -> Iterator[Finding]:
    """Whether there is room where the folder is or would be."""
    free = shutil.disk_usage(_existing(home)).free
    found = f"{free / (1 << 30):.1f} GiB free"
    if free < NO_SPACE:
        yield Finding("space", "problem", found, "free some space: add and db need it")
    elif free < LITTLE_SPACE:
        yield Finding("space", "warning", found, "free some space soon")
    else:
        yield Finding("space", "ok", found)


def _writable(home: Path) -> Iterator[Finding]:
    places = [path for path in (home, home / DATABASE) if path.exists()]
    refused = [path for path in places or [_existing(home)] if not os.access(path, os.W_OK)]
    if refused:
        yield Finding(
            "writable",
            "warning",
            f"{', '.join(map(str, refused))} cannot be written",
            "reading commands work; for the others make it writable or name another --home",
        )
    else:
        yield Finding("writable", "ok", "yes")


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
