"""Which tasks can be in one group: those that read the same rows.

Asked before work is done, and again in each transaction that writes which group a task is in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from expertbank.errors import InputError
from expertbank.kinds import KINDS
from expertbank.records import RowShape, TaskRecord


def require_fitting(coming: Sequence[TaskRecord], known: Iterable[TaskRecord]) -> None:
    """A group answers one text: tasks that read no rows in common cannot be in one.

    Args:
        coming: as they are to be, in their groups; each is held against those before it, too.
        known: the tasks that are there, as they read rows now (``Registry.tasks_as_read``).

    Raises:
        InputError: one does not fit the others of its group.
    """
    by_name = {one.name: one for one in known}
    for task in coming:
        before = by_name.get(task.name)
        by_name[task.name] = task
        if task.group is None:
            continue
        pairs = _reads_pairs(task.spec)
        stays = before is not None and before.group == task.group and before.removed_at is None
        if before is not None and stays and _reads_pairs(before.spec) == pairs:
            pairs = None  # A group that was made when nobody asked goes on getting new versions.
        for mate in by_name.values():
            if mate is not task and mate.group == task.group and mate.removed_at is None:
                _require_mates(task, pairs, mate)


def _require_mates(task: TaskRecord, pairs: bool | None, mate: TaskRecord) -> None:
    theirs = _reads_pairs(mate.spec)
    if not KINDS.get(mate.kind).shapes & KINDS.get(task.kind).shapes:
        raise InputError(
            f"group {task.group} holds {mate.name}, a {mate.kind} task; "
            f"{task.name}, a {task.kind} task, cannot answer the same rows"
        )
    if not _shapes(mate.kind, theirs) & _shapes(task.kind, pairs):
        raise InputError(
            f"group {task.group} holds {mate.name}, a task of {_rows_of(theirs)}; {task.name} "
            f"is a task of {_rows_of(pairs)}, and no expert answers rows that it was not "
            "trained on; leave one of them out of the group"
        )


def _shapes(kind: str, pairs: bool | None) -> frozenset[RowShape]:
    """What the rows of a task bring, as far as its kind and its columns tell."""
    shapes = KINDS.get(kind).shapes
    if pairs is None or not {"single", "pair"} <= shapes:
        return shapes
    return shapes - {"single" if pairs else "pair"}


def _reads_pairs(spec: Mapping[str, Any]) -> bool | None:
    """Whether a task's rows are pairs, by its columns; ``None`` where they are still to be found.

    Args:
        spec: as ``TaskSpec.to_dict`` has it; whatever else a bank holds tells nothing.
    """
    columns = spec.get("columns")
    if not isinstance(columns, Mapping):
        return None
    if columns.get("text_pair") is not None:
        return True
    return None if columns.get("text") is None else False


def _rows_of(pairs: bool | None) -> str:
    return "pairs of texts" if pairs else "single texts"
