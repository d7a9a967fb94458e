"""``group``: which tasks answer the same texts together. The next router goes by it.

A group is membership of a router, not content of an expert: no expert is touched, and routers that
are fitted keep the groups that they were fitted with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from expertbank.data.spec import TaskSpec, check_task_name
from expertbank.errors import ExistsError, InputError
from expertbank.plain import texts
from expertbank.records import TaskRecord
from expertbank.registry import names
from expertbank.registry.registry import GROUP, Registry
from expertbank.workflows.active_router import active_router
from expertbank.workflows.environment import bookkeeping
from expertbank.workflows.growing.fitting import require_fitting
from expertbank.workflows.workspace import Workspace

ROUTED = "auto"
"""What a server calls the router; a group of this name could not be asked for."""
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Move:
    """One task that is in another group than before; ``None`` where it stands alone."""

    task: str
    before: str | None
    now: str | None


@dataclass(frozen=True, slots=True)
class Stale:
    """What the active router goes by, where that is not what the tasks' groups are now.

    Attributes:
        router: its version; ``None`` where there is no router yet.
        moves: tasks that it knows, alive now, in another group: as it has them, and as they are.
    """

    router: int | None = None
    moves: tuple[Move, ...] = ()

    @classmethod
    def of(cls, registry: Registry, groups: Mapping[str, str | None] | None = None) -> Stale:
        """Compare the active router with the tasks' groups.

        Args:
            registry: the open registry.
            groups: by live task its group, where it is not to be what is registered.
        """
        router = active_router(registry)
        if router is None:
            return cls()
        if groups is None:
            groups = {task.name: task.group for task in registry.tasks()}
        fitted, known = router.group_of, {name.partition("@")[0] for name in router.members}
        return cls(
            router.version,
            tuple(
                Move(task, fitted.get(task), group)
                for task, group in sorted(groups.items())
                if task in known and fitted.get(task) != group
            ),
        )

    @property
    def todo(self) -> str:
        """What is wrong and what the user should do; empty where all is as it should be."""
        if not self.moves:
            return ""
        told = [f"{one.task} {_named(one.before)}, now {_named(one.now)}" for one in self.moves]
        more = [f"{len(told) - _SHOWN:,} more"] if len(told) > _SHOWN else []
        return (
            f"router@{self.router} was fitted with other groups ("
            f"{'; '.join([*told[:_SHOWN], *more])}); run: expertbank retrain-router"
        )

    def of_task(self, task: str) -> dict[str, Any] | None:
        """What there is to say of one task; ``None`` where the router goes by its group."""
        found = next((asdict(move) for move in self.moves if move.task == task), None)
        return None if found is None else {"router": self.router, **found, "todo": self.todo}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "router": self.router,
            "tasks": [asdict(move) for move in self.moves],
            "todo": self.todo,
        }


@dataclass(frozen=True, slots=True)
class Grouped:
    """What grouping tasks did, or would do.

    Attributes:
        group: the group that they are in now; ``None`` for none.
        moved: the tasks that were elsewhere.
        already: the tasks that were there before; nothing was done to them.
        stale: how the active router differs from the groups afterwards.
        dry_run: whether nothing was written because only a look was asked for.
    """

    group: str | None
    moved: tuple[Move, ...]
    already: tuple[str, ...]
    stale: Stale
    dry_run: bool

    @property
    def todo(self) -> str:
        """What the user should do next; empty when nothing is left to do."""
        return self.stale.todo

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "group": self.group,
            "moved": [asdict(move) for move in self.moved],
            "already": list(self.already),
            "stale": self.stale.to_dict(),
            "dry_run": self.dry_run,
            "todo": self.todo,
        }


def group_tasks(
    workspace: Workspace,
    group: str | None,
    tasks: str | Sequence[str],
    *,
    dry_run: bool = False,
) -> Grouped:
    """Put tasks into a group, or with ``None`` let them stand alone; a second time nothing happens.

    Args:
        workspace: the open bank.
        group: the group's name.
        tasks: one task or several; to be taken out also removed ones.
        dry_run: only check and tell.

    Raises:
        InputError: no task is named, no name for a group, or tasks that cannot read the same rows.
        NotFoundError: no such task, or it was removed.
        ExistsError: a task is called like the group.
        LockedError: ``gc`` or ``db restore`` kept the bank for too long.
    """
    wanted = list(dict.fromkeys(texts(tasks, "tasks")))
    if not wanted:
        raise InputError("name at least one task, such as: expertbank group tweets irony hate")
    if not all(wanted):
        raise InputError("the name of a task is empty; expertbank list shows them all")
    registry = workspace.registry
    if group is None:
        found = [registry.task(task) for task in wanted]
    else:
        check_task_name(group, "group")
        found = [registry.task(registry.member(task).task) for task in wanted]
        _require_possible(registry, group, found)
    if not dry_run and any(task.group != group for task in found):
        run = bookkeeping(GROUP, {}, {}, workspace.backbone_record.digest)
        with workspace.writing():
            found = list(registry.set_group(wanted, group, run, require_fitting))
    groups = {task.name: task.group for task in registry.tasks()}
    groups |= {task.name: group for task in found if task.name in groups}
    return Grouped(
        group,
        tuple(Move(task.name, task.group, group) for task in found if task.group != group),
        tuple(task.name for task in found if task.group == group),
        Stale.of(registry, groups),
        dry_run,
    )


def require_own_name(group: str, tasks: Collection[str], groups: Collection[str | None]) -> None:
    """Refuse a new group that could not be told from a task, or from the router.

    A server offers tasks and groups by name. A group that is there already keeps its name.

    Raises:
        ExistsError: a task is called so.
        InputError: the router is.
    """
    if group in groups:
        return
    if group in tasks:
        raise ExistsError(
            f"a task is called {group}, so a group of that name could not be asked for; give the "
            "group another name"
        )
    _require_not_the_router(group, "group")


def require_new_name(task: str) -> None:
    """Refuse a name for a task that a server could not offer.

    Raises:
        InputError: the router is called so.
    """
    _require_not_the_router(task, "task")


def _require_not_the_router(name: str, what: str) -> None:
    if name == ROUTED:
        raise InputError(
            f"servers call the router {ROUTED}, so a {what} of that name could not be asked for; "
            f"give the {what} another name"
        )


def _require_possible(registry: Registry, group: str, tasks: Sequence[TaskRecord]) -> None:
    every = registry.tasks_as_read()
    require_own_name(group, [task.name for task in every], [task.group for task in every])
    named = {task.name for task in tasks}
    require_fitting([replace(one, group=group) for one in every if one.name in named], every)


def require_allowed(registry: Registry | None, wanted: TaskSpec, group: str | None) -> None:
    """Refuse a task that is registered as another kind or in another group, or cannot join it.

    Args:
        registry: of the bank, ``None`` where there is none yet.
        wanted: the task; its columns may still be to be found.
        group: the group that is asked for; ``None`` for none.

    Raises:
        InputError: the registry would refuse it, but only when it is trained.
        ExistsError: its name, or that of its group, is taken.
    """
    known = {} if registry is None else {task.name: task for task in registry.tasks_as_read()}
    _require_same_task(known, wanted, group)
    task = TaskRecord(wanted.name, wanted.kind, (), wanted.to_dict(), "", group=group)
    require_fitting_group(known, task)


def _require_same_task(
    known: Mapping[str, TaskRecord], wanted: TaskSpec, group: str | None
) -> None:
    """A new version keeps kind and group; the registry would refuse it, but only when trained.

    Raises:
        InputError: it names others.
    """
    task = known.get(wanted.name)
    if task is None:
        return
    if task.kind != wanted.kind:
        raise InputError(
            f"task {task.name} is registered as {task.kind}, a new version cannot be "
            f"{wanted.kind}; use another task name"
        )
    if group is not None and group != task.group:
        raise InputError(names.other_group(task.name, task.group, group))


def require_fitting_group(known: Mapping[str, TaskRecord], task: TaskRecord) -> None:
    """A group has a name of its own, and tasks that read the same rows; so has a new task.

    A task that has a version, perhaps a removed one, stays in its group without being told.

    Args:
        known: the bank's tasks by name, removed ones too, as they read rows now.
        task: the task that comes in, and the group that is asked for.

    Raises:
        InputError: it would not fit.
        ExistsError: a name is taken.
    """
    groups = [one.group for one in known.values()]
    before = known.get(task.name)
    if before is None:
        require_new_name(task.name)
        if task.name in groups:
            raise ExistsError(
                f"a group is called {task.name}, and could no longer be asked for by its name; "
                "give the task another name, or move the group's tasks first: expertbank group "
                "OTHER TASK"
            )
    if task.group is not None:
        require_own_name(task.group, [*known, task.name], groups)
    elif before is not None:
        task = replace(task, group=before.group)
    require_fitting([task], known.values())


def require_free_names(registry: Registry, tasks: Sequence[TaskRecord]) -> None:
    """Ask again, of tasks that are about to be registered, what was asked when they were prepared.

    That may be hours ago. Each is held against those before it, too.

    Raises:
        ExistsError: the name of a task or of its group was taken meanwhile.
        InputError: its group has a task now that reads other rows.
    """
    known = {task.name: task for task in registry.tasks_as_read()}
    for task in tasks:
        require_fitting_group(known, task)
        group = known[task.name].group if task.name in known else task.group
        known[task.name] = replace(task, group=group)


def _named(group: str | None) -> str:
    return "alone" if group is None else f"in {group}"
