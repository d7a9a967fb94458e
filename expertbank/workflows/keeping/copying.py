"""``db copy``: the same bank at another place, from a folder to a database and back.

Files go first, several at once, each read back and hashed where it came to lie; then all rows in
one transaction, compared row by row. Whoever was interrupted calls again: files that are there
are only hashed, and of the rows there are all or none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext, suppress
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from expertbank.artifacts.claims import claim
from expertbank.artifacts.lock import WAIT_SECONDS
from expertbank.artifacts.store import ArtifactStore
from expertbank.errors import ExistsError, InputError, IntegrityError, StaleError
from expertbank.records import ProgressCallback, ProgressEvent, no_progress
from expertbank.registry import transfer
from expertbank.registry.registry import Registry
from expertbank.registry.sql import SqlRegistry
from expertbank.workflows.home import Home
from expertbank.workflows.workspace import Workspace

WORKERS = 8
"""Files that are under way at once: each waits for two stores."""
GROUP = 8
ROUNDS = 5
"""How often files that came in meanwhile are fetched before somebody is asked to stop."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What copying did.

    Attributes:
        source: where the bank is.
        target: where it is now, too.
        bank: its name, which both have.
        store: URL of the target's store; ``None`` for files in its folder.
        experts: how many experts it has.
        routers: how many routers.
        rows: how many rows were copied; 0 when all were there.
        files: how many files the target holds, each read there and hashed.
        copied: how many of them were not there, or damaged.
        bytes: the size of those.
    """

    source: str
    target: str
    bank: str
    store: str | None
    experts: int
    routers: int
    rows: int
    files: int
    copied: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return asdict(self)


def copy_bank(
    source: Home,
    target: Home,
    *,
    store: str | None = None,
    lock_wait: float = WAIT_SECONDS,
    progress: ProgressCallback = no_progress,
) -> Copied:
    """Copy a bank, or bring a copy up to date that nobody wrote to.

    Args:
        source: where the bank is; others may write to it meanwhile.
        target: where it shall be.
        store: URL of the target's store; a folder needs none.
        lock_wait: seconds to wait for commands that write to the target, or collect at the source.
        progress: told as files and rows come over.

    Raises:
        InputError: both are one place, or the target has no store.
        NotFoundError: there is no bank at the source.
        ExistsError: the target holds another bank, or this one, which went on there.
        IntegrityError: a file of the source is not what its digest says; nothing is half-copied.
        LockedError: others kept one of them for too long.
    """
    if str(source) == str(target) or _same_folder(source, target):
        raise InputError(f"{source} is source and destination; name another place")
    with ExitStack() as opened:
        ours = Workspace.open(source, read_only=True, lock_wait=lock_wait, cache_bytes=0)
        opened.callback(ours.close)
        theirs = Workspace.open(target, create=True, lock_wait=lock_wait, store_url=None)
        opened.callback(theirs.close)
        with _unchanged(source, ours):
            return _copy(ours, theirs, store, progress)


def _copy(
    ours: Workspace, theirs: Workspace, store: str | None, progress: ProgressCallback
) -> Copied:
    _ = ours.backbone_record  # of a bank without one nothing is worth a copy
    bank = ours.registry.bank_id()
    url = _store_url(theirs, store)
    place = theirs.home.store(url)
    # One folder has several names: from here, from the root, through links.
    if os.path.realpath(place.location) == os.path.realpath(ours.store.location):
        raise InputError(
            f"{place.location} is the store of {ours.home}: give the copy one of its own (--store)"
        )
    if theirs.exists:
        place.probe()
    else:
        theirs.require_usable(url, bank)
    theirs.home.prepare()
    with theirs.lock.exclusive() as still_held, closing(_made(theirs)) as made:
        there = made.backbone()
        if there is not None and made.bank_id() != bank:
            raise ExistsError(f"{theirs.home} holds another bank; name a destination that is empty")
        if url is not None:
            claim(place, bank)
        files = _Files(ours.store, place, progress)
        try:
            rows = _rows_after_files(ours, made, url, files, still_held, progress)
        except BaseException:
            _tell_begun(files, place.location, progress)
            raise
        told = f"the bank is at {theirs.home}, too"
        progress(ProgressEvent("copying rows", rows, rows, lasting=told))
        counts = theirs.home.location.counts(("experts", "routers"))
    return Copied(
        str(ours.home),
        str(theirs.home),
        bank,
        url,
        counts["experts"],
        counts["routers"],
        rows,
        len(files.sound),
        files.copied,
        files.bytes,
    )


def _made(theirs: Workspace) -> Registry:
    return theirs.registry if theirs.exists else theirs.home.location.create()


def _tell_begun(files: _Files, where: str, progress: ProgressCallback) -> None:
    """Tell what a copy that did not come to its end leaves: whole files, which are found again."""
    if files.sound:
        count = "1 file is" if len(files.sound) == 1 else f"{len(files.sound):,} files are"
        told = f"{count} at {where}, and the same command goes on from there"
        progress(ProgressEvent("copying files", len(files.sound), len(files.sound), lasting=told))


def _rows_after_files(
    ours: Workspace,
    made: Registry,
    url: str | None,
    files: _Files,
    still_held: Callable[[], None],
    progress: ProgressCallback,
) -> int:
    """Copy files until the rows name no others, then the rows."""
    source, target = _sql(ours.registry), _sql(made)
    total = sum(ours.home.location.counts(transfer.TABLES).values())

    def done(count: int) -> None:
        progress(ProgressEvent("copying rows", count, max(count, total)))

    for _ in range(ROUNDS):
        files.fetch(_named(ours.registry))
        still_held()
        if made.backbone() is not None and not transfer.differs(source, target):
            return 0
        with suppress(StaleError):  # somebody added to the source meanwhile
            return transfer.copy_rows(source, target, url, files.sound, done)
    raise StaleError(
        f"{ours.home} grows faster than it is copied; stop those who add to it, then run it again"
    )


def _named(registry: Registry) -> list[str]:
    return [one.digest for one in registry.artifacts() if one.purged_at is None]


def _sql(registry: Registry) -> SqlRegistry:
    if not isinstance(registry, SqlRegistry):
        raise InputError("only banks in folders and in PostgreSQL can be copied")
    return registry


def _store_url(theirs: Workspace, asked: str | None) -> str | None:
    """The target's store: the recorded one, where it has one."""
    record = theirs.registry.backbone() if theirs.exists else None
    if record is not None:
        theirs.require_store(asked)
        return record.store
    return asked


def _same_folder(source: Home, target: Home) -> bool:
    folders = source.folder, target.folder
    return None not in folders and len({one.resolve() for one in folders if one}) == 1


def _unchanged(source: Home, ours: Workspace) -> AbstractContextManager[None]:
    """Keep ``gc`` out of the source, where that can be: nobody deletes what cannot be written."""
    if source.folder is not None and not os.access(source.folder, os.W_OK):
        return nullcontext()
    return ours.lock.shared()


class _Files:
    """The files that came over."""

    def __init__(
        self, source: ArtifactStore, target: ArtifactStore, progress: ProgressCallback
    ) -> None:
        self.sound: set[str] = set()
        self.copied = 0
        self.bytes = 0
        self._source = source
        self._target = target
        self._progress = progress

    def lacking(self, digests: Sequence[str]) -> list[str]:
        """Those that did not come over yet."""
        return [digest for digest in digests if digest not in self.sound]

    def fetch(self, digests: Sequence[str]) -> None:
        """Copy what is lacking, and hash all of it at the target."""
        wanted = self.lacking(digests)
        groups = [wanted[start : start + GROUP] for start in range(0, len(wanted), GROUP)]
        pool = ThreadPoolExecutor(WORKERS, "copy")
        try:
            for digest, size in chain.from_iterable(pool.map(self._group, groups)):
                self.sound.add(digest)
                self.copied += size is not None
                self.bytes += size or 0
                self._progress(ProgressEvent("copying files", len(self.sound), len(digests)))
        finally:
            pool.shutdown(cancel_futures=True)

    def _group(self, digests: Sequence[str]) -> list[tuple[str, int | None]]:
        return [(digest, self._one(digest)) for digest in digests]

    def _one(self, digest: str) -> int | None:
        """Size of the file if it had to be copied."""
        if self._target.state(digest) is not None and self._whole(digest):
            return None
        data = self._source.get(digest)
        self._target.put(data)
        for _ in self._target.chunks(digest):
            pass
        return len(data)

    def _whole(self, digest: str) -> bool:
        try:
            for _ in self._target.chunks(digest):
                pass
        except IntegrityError:
            return False
        return True
