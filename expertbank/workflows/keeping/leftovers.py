"""Files in a bank's folder, other than artifacts, that an interrupted command left behind."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from expertbank.artifacts.bundle import is_half_made
from expertbank.files.durable import sync_folder
from expertbank.workflows.home import DATABASE
from expertbank.workflows.workspace import CHECKPOINTS

HOUR = 3600.0
UNLOCKED_GRACE = HOUR
"""Some files are written without the bank's lock (checkpoints, caches, backups): however short
the grace that was asked for, younger ones may still be in use."""

_COPY = re.compile(r"\..+\.[0-9a-f]{32}(-journal)?")


@dataclass(frozen=True, slots=True)
class Leftover:
    """An artifact, file or folder that nobody needs.

    Attributes:
        where: where it is, for people.
        bytes: its size.
        why: what it is.
        delete: deletes it, for good.
    """

    where: str
    bytes: int
    why: str
    delete: Callable[[], None]


def temporary_files(home: Path, grace: float) -> Iterator[Leftover]:
    """Half-written files, half-made backups and half-made exports inside ``home``."""
    grace = max(grace, UNLOCKED_GRACE)
    for path in sorted([*home.glob(".tmp-*"), *(home / CHECKPOINTS).glob(".tmp-*")]):
        if _age(path) >= grace:
            yield _leftover(path, "half-written file")
    for path in sorted(home.iterdir()) if home.is_dir() else ():
        if _age(path) < grace or path.is_symlink():
            continue
        if path.is_file() and _COPY.fullmatch(path.name):
            yield _leftover(path, "half-made backup")
        elif path.is_file() and path.match(f"{DATABASE}.*.backup") and path.stat().st_size == 0:
            yield _leftover(path, "empty backup")
        elif is_half_made(path):
            yield _leftover(path, "half-made export")


def checkpoints(
    home: Path, grace: float, newest: Mapping[str, float], removed: frozenset[str]
) -> tuple[list[Leftover], list[Path]]:
    """Unfinished training runs that nobody will resume, and tasks whose run may be.

    Args:
        home: the bank's folder.
        grace: seconds.
        newest: task to the time its newest expert was registered.
        removed: removed tasks.

    Returns:
        what may go: older than the task's newest expert, or of a removed task; and the
        checkpoints that stay.
    """
    gone: list[Leftover] = []
    kept: list[Path] = []
    folder = home / CHECKPOINTS
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("tuning/*.json")]):
        try:
            superseded = path.stat().st_mtime <= newest.get(path.stem, 0.0)
        except FileNotFoundError:  # the training ended meanwhile
            continue
        if (superseded or path.stem in removed) and _age(path) >= max(grace, UNLOCKED_GRACE):
            gone.append(_leftover(path, "abandoned training run"))
        else:
            kept.append(path)
    return gone, kept


def backups(home: Path) -> list[Path]:
    """Backups of the database that upgrades and restores made beside it; never deleted here."""
    found = sorted(home.glob(f"{DATABASE}.*.backup"))
    return [path for path in found if path.is_file() and path.stat().st_size]


def age(modified: float) -> float:
    """Seconds since ``modified``; a clock that was set back makes no fresh file look old."""
    return max(time.time() - modified, 0.0)


def _age(path: Path) -> float:
    try:
        return age(path.lstat().st_mtime)
    except FileNotFoundError:
        return 0.0


def _leftover(path: Path, why: str) -> Leftover:
    if path.is_dir():
        size = sum(inner.lstat().st_size for inner in path.rglob("*") if not inner.is_dir())
    else:
        size = path.lstat().st_size
    return Leftover(str(path), size, why, partial(_delete, path))


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    sync_folder(path.parent)
