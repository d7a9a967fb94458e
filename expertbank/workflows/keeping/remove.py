"""``remove``: a tombstone for a task. Nothing is deleted; the next router leaves the task out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from expertbank.errors import NotFoundError
from expertbank.registry.registry import REMOVE
from expertbank.workflows.environment import bookkeeping
from expertbank.workflows.none_alive import ADD
from expertbank.workflows.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Removal:
    """What removing a task did, or would do.

    Attributes:
        task: the task.
        experts: its experts, all versions; their files stay until ``gc --purge-removed``.
        purged: those of ``experts`` whose files ``gc`` deleted.
        left: whether another task is alive, so that a router without this one can be fitted.
        removed_at: when it was removed; ``None`` in a dry run.
        already: whether it had been removed before, so that nothing was written.
        routers: routers that still know the task.
        aliases: aliases that name one of these.
        dry_run: whether nothing was written because only a look was asked for.
    """

    task: str
    experts: tuple[str, ...]
    removed_at: str | None
    already: bool
    routers: tuple[int, ...]
    aliases: tuple[str, ...]
    dry_run: bool
    purged: tuple[str, ...] = ()
    left: bool = True

    @property
    def todo(self) -> str:
        """What the user should do next; empty when nothing is left to do."""
        if not self.aliases:
            return ""
        still = f"the router named {' and '.join(self.aliases)} still sends rows to {self.task}"
        if self.left:
            return f"{still}; run: expertbank retrain-router"
        return f"{still}, and no other task is alive; run: {ADD}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "task": self.task,
            "experts": list(self.experts),
            "purged": list(self.purged),
            "removed_at": self.removed_at,
            "already_removed": self.already,
            "routers": list(self.routers),
            "aliases": list(self.aliases),
            "dry_run": self.dry_run,
            "todo": self.todo,
        }


def remove(workspace: Workspace, task: str, *, dry_run: bool = False) -> Removal:
    """Leave ``task`` out of every router to come; a second time nothing happens.

    Experts, evidence and routers stay: ``add --new-version`` makes the task alive again, and
    ``gc --purge-removed`` deletes its files.

    Raises:
        NotFoundError: no such task.
        LockedError: ``gc`` or ``db restore`` kept the bank for too long.
    """
    registry = workspace.registry
    before = registry.task(task)
    experts = tuple(expert.id for expert in registry.experts(task))
    if not experts:
        raise NotFoundError(f"task {task!r} has no expert")
    routers = tuple(r.version for r in registry.routers() if set(r.members) & set(experts))
    aliases = tuple(a.name for a in registry.aliases() if a.router_version in routers)
    record = before
    if not dry_run and before.removed_at is None:
        digest = workspace.backbone_record.digest
        run = bookkeeping(REMOVE, {"task": task}, {"experts": list(experts)}, digest)
        with workspace.writing():
            record = registry.remove_task(task, run)
    already = before.removed_at is not None
    gone = set(registry.purged_experts())
    purged = tuple(name for name in experts if name in gone)
    left = any(name != task for name in registry.member_tasks())
    return Removal(
        *(task, experts, record.removed_at, already, routers, aliases, dry_run, purged, left)
    )
