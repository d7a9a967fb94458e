"""``gc``: delete what nothing refers to, and on request what only removed tasks or old routers do.

The bank's lock is held alone, so no writer stands between its stored bytes and their row. What
the registry must forget is committed first; files go after that, so a process killed between
leaves files without rows, which the next ``gc`` deletes, and never rows without files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from expertbank.config import GRACE_HOURS
from expertbank.errors import ExpertBankError
from expertbank.files.durable import os_errors_translated
from expertbank.records import Forgetting, ProgressCallback, ProgressEvent, Purge, no_progress
from expertbank.registry.registry import FORGET, PURGE
from expertbank.settings import number
from expertbank.wording import count
from expertbank.workflows.environment import bookkeeping
from expertbank.workflows.growing.sums_cache import SUMS_CACHE, drop_sums_of
from expertbank.workflows.keeping.leftovers import Leftover
from expertbank.workflows.keeping.survey import Collection, survey
from expertbank.workflows.workspace import Workspace


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
        InputError: a grace that is no time, or no number of routers to keep.
        LockedError: other commands kept writing for too long.
    """
    number(grace_hours, "grace_hours", "gc", float, option="grace", least=0)
    if keep_routers is not None:
        number(keep_routers, "keep_routers", "gc", int, least=1)
    if dry_run:
        return survey(workspace, purge_removed, keep_routers, grace_hours, dry_run=True)
    _require_writable(workspace)
    with workspace.lock.exclusive() as still_held:
        workspace.claim_store()
        found = survey(workspace, purge_removed, keep_routers, grace_hours, dry_run=False)
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
    deleted, total = 0, len(leftovers)
    try:
        for leftover in leftovers:
            still_held()
            leftover.delete()
            deleted += 1
            progress(ProgressEvent("deleting", deleted, total))
    finally:
        rest = "" if deleted == total else f" of {total}, a later gc deletes the others"
        if deleted or not total:
            told = f"deleted {count(deleted, 'file')}{rest}"
            progress(ProgressEvent("deleting", deleted, total, lasting=told))


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
