"""What ``gc`` would delete: what nothing refers to, and what is asked for beside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from expertbank.artifacts.store import ArtifactStore
from expertbank.errors import ExpertBankError
from expertbank.records import Forgetting, Problem, Purge
from expertbank.registry.sqlite.file import SqliteFile
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


def survey(
    workspace: Workspace,
    purge_removed: bool,
    keep_routers: int | None,
    grace_hours: float,
    *,
    dry_run: bool,
) -> Collection:
    """What may go, and what is kept although it looks unneeded; see ``collect``."""
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
