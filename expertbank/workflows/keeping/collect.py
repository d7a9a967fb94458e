"""``gc``: delete what nothing refers to, and on request what only removed tasks or old routers do.

The bank's lock is held alone, so no writer stands between its stored bytes and their row. What
the registry must forget is committed first; files go after that, so a process killed between
leaves files without rows, which the next ``gc`` deletes, and never rows without files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from expertbank.artifacts.store import ArtifactStore
from expertbank.config import GRACE_HOURS
from expertbank.errors import ExpertBankError, InputError
from expertbank.files.durable import os_errors_translated
from expertbank.records import (
    Forgetting,
    Problem,
    ProgressCallback,
    ProgressEvent,
    Purge,
    no_progress,
)
from expertbank.registry.registry import FORGET, PURGE
from expertbank.registry.sqlite.file import SqliteFile
from expertbank.workflows.environment import bookkeeping
from expertbank.workflows.growing.sums_cache import SUMS_CACHE, drop_sums_of
from expertbank.workflows.keeping import leftovers
from expertbank.workflows.keeping.leftovers import HOUR, Leftover, age
from expertbank.workflows.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Collection:
    """What ``gc`` deleted, or would delete.

    Attributes:
        deleted: the files and folders.
        purged: removed tasks whose files are among them.
        routers: routers that cannot be used again because of that.
        forgotten: old routers whose gates are among them.
        kept: what was left alone although it looks unneeded: what, where, what to do.
        dry_run: whether nothing was deleted because only a look was asked for.
    """

    deleted: tuple[Leftover, ...]
    purged: tuple[str, ...]
    routers: tuple[int, ...]
    forgotten: tuple[int, ...]
    kept: tuple[Problem, ...]
    dry_run: bool

    @property
    def bytes(self) -> int:
        """Size of what is deleted."""
        return sum(leftover.bytes for leftover in self.deleted)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "deleted": [
                {"path": leftover.where, "bytes": leftover.bytes, "why": leftover.why}
                for leftover in self.deleted
            ],
            "bytes": self.bytes,
            "purged": list(self.purged),
            "routers": list(self.routers),
            "forgotten": list(self.forgotten),
            "kept": [{"what": k.what, "where": k.where, "todo": k.todo} for k in self.kept],
            "dry_run": self.dry_run,
        }


def collect(
    workspace: Workspace,
    *,
    dry_run: bool = False,
    purge_removed: bool = False,
    keep_routers: int | None = None,
    grace_hours: float = GRACE_HOURS,
    progress: ProgressCallback = no_progress,
) -> Collection:
    """Delete what nothing needs.

    Args:
        workspace: the open bank.
        dry_run: only tell; no lock is taken, nothing is written.
        purge_removed: also delete files and features that only removed tasks need; routers that
            need them can never be used again.
        keep_routers: also delete the gates of routers that are neither among so many newest ones
            nor named by an alias, and the choices that only they rest on.
        grace_hours: leave unreferenced and temporary files alone that are younger.
        progress: told as files are deleted, and of what was let go of for good.

    Raises:
        InputError: a negative grace, or no router to keep.
        LockedError: other commands kept writing for too long.
    """
    if not 0 <= grace_hours < float("inf"):
        raise InputError(f"--grace must be 0 or more hours, got {grace_hours}")
    if keep_routers is not None and keep_routers < 1:
        raise InputError(f"--keep-routers must be 1 or more, got {keep_routers}")
    if dry_run:
        return _survey(workspace, purge_removed, keep_routers, grace_hours, dry_run=True)
    _require_writable(workspace)
    with workspace.lock.exclusive() as still_held:
        workspace.claim_store()
        found = _survey(workspace, purge_removed, keep_routers, grace_hours, dry_run=False)
        if found.forgotten or found.purged:
            workspace.registry.probe_writable()
        if keep_routers is not None and found.forgotten:
            _forget(workspace, workspace.registry.forgettable(keep_routers))
            told = ", ".join(f"router@{version}" for version in found.forgotten)
            progress(ProgressEvent("deleting", 0, len(found.deleted), lasting=f"forgot {told}"))
        if found.purged:
            _purge(workspace, workspace.registry.purgeable())
            told = f"gave up the files of {', '.join(found.purged)}"
            progress(ProgressEvent("deleting", 0, len(found.deleted), lasting=told))
        _delete(found.deleted, still_held, progress)
    return found


def _require_writable(workspace: Workspace) -> None:
    """Refuse a registry that only reads; one without room is asked again before a row is written.

    Raises:
        ExpertBankError: a standby, a missing permission, a lock, a lost server, damage.
    """
    try:
        workspace.registry.probe_writable()
    except ExpertBankError as error:
        # Only a disk, which deleting files may free, has no class of its own.
        if type(error) is not ExpertBankError:
            raise


def _delete(
    leftovers: Sequence[Leftover], still_held: Callable[[], None], progress: ProgressCallback
) -> None:
    """Delete one after the other; whatever ends it, how many are gone is told."""
    count, total = 0, len(leftovers)
    try:
        for leftover in leftovers:
            still_held()
            leftover.delete()
            count += 1
            progress(ProgressEvent("deleting", count, total))
    finally:
        rest = "" if count == total else f" of {total}, a later gc deletes the others"
        if count or not total:
            told = f"deleted {count:,} file{'' if count == 1 else 's'}{rest}"
            progress(ProgressEvent("deleting", count, total, lasting=told))


def _survey(
    workspace: Workspace,
    purge_removed: bool,
    keep_routers: int | None,
    grace_hours: float,
    *,
    dry_run: bool,
) -> Collection:
    grace = grace_hours * HOUR
    purge, forgetting = workspace.registry.purgeable(), Forgetting(0)
    kept = list(_kept(purge))
    deleted: list[Leftover] = []
    if keep_routers is not None:
        forgetting = workspace.registry.forgettable(keep_routers)
        deleted += _artifacts(workspace.store, forgetting.digests, "of a forgotten router")
        kept += _named(forgetting)
    if purge_removed:
        rest = sorted(set(purge.digests) - set(forgetting.digests))
        deleted += _artifacts(workspace.store, rest, "of a removed task")
    elif purge.tasks:
        kept.append(
            Problem(
                f"files of removed tasks ({', '.join(purge.tasks)})",
                workspace.store.location,
                "run: expertbank gc --purge-removed",
            )
        )
    deleted += _unreferenced(workspace, grace, kept)
    deleted += _half_written(workspace.store, grace)
    deleted += leftovers.temporary_files(workspace.folder, grace)
    gone, unfinished = _checkpoints(workspace, grace)
    deleted += gone
    kept += [
        Problem(
            f"unfinished training of {path.stem}",
            str(path),
            f"repeat the command that was interrupted, with --resume; or delete {path}",
        )
        for path in unfinished
    ]
    return Collection(
        tuple(deleted),
        purge.tasks if purge_removed else (),
        purge.routers if purge_removed else (),
        forgetting.routers,
        tuple(kept),
        dry_run,
    )


def _kept(purge: Purge) -> Iterator[Problem]:
    for task, aliases in purge.in_use:
        yield Problem(
            f"files of the removed task {task}, still used by {' and '.join(aliases)}",
            task,
            "run: expertbank retrain-router; move other aliases with: expertbank alias NAME ROUTER",
        )


def _named(forgetting: Forgetting) -> Iterator[Problem]:
    for version, aliases in forgetting.in_use:
        yield Problem(
            f"router@{version}, which {' and '.join(aliases)} names",
            f"router@{version}",
            "to let it go, move the alias with: expertbank alias NAME ROUTER",
        )


def _unreferenced(workspace: Workspace, grace: float, kept: list[Problem]) -> Iterator[Leftover]:
    rows = {artifact.digest: artifact for artifact in workspace.registry.artifacts()}
    named_by_backups = _named_by_backups(workspace)
    store, spared = workspace.store, 0
    for digest in store.digests():
        row = rows.get(digest)
        if row is not None:
            # Deleted in the database, and the process died before it came to the file.
            purged = () if row.purged_at is None else (digest,)
            yield from _artifacts(store, purged, "of a removed task or a forgotten router")
            continue
        unneeded = tuple(_artifacts(store, (digest,), "unreferenced", grace))
        if digest in named_by_backups:
            spared += len(unneeded)
        else:
            yield from unneeded
    if spared:
        kept.append(
            Problem(
                f"{spared} files that only backups of the database name",
                str(workspace.home),
                "delete the *.backup files there that you will never restore, then run gc again",
            )
        )


def _named_by_backups(workspace: Workspace) -> set[str]:
    named: set[str] = set()
    for path in leftovers.backups(workspace.folder):
        try:
            named |= SqliteFile(path).artifact_digests()
        except ExpertBankError:
            continue  # a damaged backup restores nothing
    return named


def _artifacts(
    store: ArtifactStore, digests: Iterable[str], why: str, grace: float = 0.0
) -> Iterator[Leftover]:
    """Those of ``digests`` that are there and were not put within the last ``grace`` seconds."""
    for digest in digests:
        stored = store.state(digest)
        if stored is not None and age(stored.modified) >= grace:
            delete = partial(store.delete, digest)
            yield Leftover(store.where(digest), stored.bytes, why, delete)


def _half_written(store: ArtifactStore, grace: float) -> Iterator[Leftover]:
    for one in store.unfinished():
        if age(one.modified) >= grace:
            delete = partial(store.discard, one)
            yield Leftover(one.where, one.bytes, "half-written artifact", delete)


def _checkpoints(workspace: Workspace, grace: float) -> tuple[list[Leftover], list[Path]]:
    newest = {
        expert.task: datetime.fromisoformat(expert.created_at).timestamp()
        for expert in workspace.registry.experts()
    }
    removed = {task.name for task in workspace.registry.tasks(include_removed=True)}
    removed -= {task.name for task in workspace.registry.tasks()}
    return leftovers.checkpoints(workspace.folder, grace, newest, frozenset(removed))


def _purge(workspace: Workspace, purge: Purge) -> None:
    with os_errors_translated(workspace.folder / SUMS_CACHE, "delete"):
        drop_sums_of(workspace.folder, purge.digests)  # rows to calibrate on are in them
    data = {"experts": list(purge.experts), "artifacts": list(purge.digests)}
    config = {"tasks": list(purge.tasks)}
    run = bookkeeping(PURGE, config, data, workspace.backbone_record.digest)
    workspace.registry.commit_purge(purge, run)


def _forget(workspace: Workspace, forgetting: Forgetting) -> None:
    config = {"keep": forgetting.keep, "routers": list(forgetting.routers)}
    data = {"artifacts": list(forgetting.digests)}
    run = bookkeeping(FORGET, config, data, workspace.backbone_record.digest)
    workspace.registry.commit_forgetting(forgetting, run)
