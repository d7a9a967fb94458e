"""Reading: each function answers one question inside a transaction that the caller holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from expertbank.errors import NotFoundError
from expertbank.records import EvaluationRecord, ExpertRecord, FeatureSetRecord, RouterRecord
from expertbank.registry import names, rows
from expertbank.registry.tables import (
    AliasRow,
    BackboneRow,
    EvaluationRow,
    ExpertRow,
    FeatureSetRow,
    RouterMemberRow,
    RouterRow,
    TaskRow,
)

EvaluationsOf = Literal["all", "oracle", "routed"] | int


def backbone_row(session: Session) -> BackboneRow | None:
    """The bank's backbone, if it has one."""
    return session.scalar(select(BackboneRow))


def task_rows(session: Session, include_removed: bool) -> list[TaskRow]:
    """Tasks by name."""
    query = select(TaskRow).order_by(TaskRow.name)
    if not include_removed:
        query = query.where(TaskRow.removed_at.is_(None))
    return list(session.scalars(query))


def task_row(session: Session, name: str) -> TaskRow:
    """The task, removed or not.

    Raises:
        NotFoundError: no such task; near names are listed.
    """
    row = session.scalar(select(TaskRow).where(TaskRow.name == name))
    if row is None:
        known = session.scalars(select(TaskRow.name)).all()
        raise NotFoundError.of("task", name, known, "expertbank list shows all")
    return row


def expert_rows(session: Session, task: str | None = None) -> list[tuple[ExpertRow, str]]:
    """Experts with their task's name, by task and version."""
    if task is None:
        return _experts_where(session)
    return _experts_where(session, TaskRow.id == task_row(session, task).id)


def expert_row(session: Session, reference: str) -> tuple[ExpertRow, str]:
    """The expert named by ``task`` (its newest), ``task@version`` or a digest prefix.

    Raises:
        NotFoundError: nothing has that name.
        InputError: the digest prefix is ambiguous.
    """
    # Asked by key and not searched in all of them: a bank may hold thousands.
    found: list[tuple[ExpertRow, str]] = []
    named = names.split_version(reference)
    if named is not None and f"{named[0]}@{named[1]}" == reference:
        found = _experts_where(session, TaskRow.name == named[0], ExpertRow.version == named[1])
    if not found:
        found = _experts_where(session, TaskRow.name == reference)[-1:]
    if not found and names.is_digest_prefix(reference):
        found = _experts_where(session, ExpertRow.digest.startswith(reference, autoescape=True))
        names.only_one(reference, [(f"{task}@{row.version}", row) for row, task in found])
    if not found:
        experts = expert_rows(session)
        newest = dict.fromkeys(task for _, task in experts)
        known = [*newest, *(f"{task}@{row.version}" for row, task in experts)]
        raise NotFoundError.of("expert", reference, known, "expertbank list shows all")
    return found[0]


def _experts_where(
    session: Session, *conditions: ColumnElement[bool]
) -> list[tuple[ExpertRow, str]]:
    query = select(ExpertRow, TaskRow.name).join(TaskRow, TaskRow.id == ExpertRow.task_id)
    found = session.execute(query.where(*conditions).order_by(TaskRow.name, ExpertRow.version))
    return [(row, name) for row, name in found]


def member_tasks(session: Session) -> tuple[str, ...]:
    """Names of the live tasks that have an expert, by name."""
    query = (
        select(TaskRow.name)
        .where(TaskRow.removed_at.is_(None), TaskRow.id.in_(select(ExpertRow.task_id)))
        .order_by(TaskRow.name)
    )
    return tuple(session.scalars(query))


def has_members(session: Session) -> bool:
    """Whether there is a live task with an expert."""
    query = select(ExpertRow.id).join(TaskRow, TaskRow.id == ExpertRow.task_id)
    return session.scalar(query.where(TaskRow.removed_at.is_(None)).limit(1)) is not None


def member(session: Session, task: str) -> ExpertRecord:
    """The newest expert of a live task.

    Raises:
        NotFoundError: no such task, or it was removed.
    """
    query = (
        select(ExpertRow)
        .join(TaskRow, TaskRow.id == ExpertRow.task_id)
        .where(TaskRow.name == task, TaskRow.removed_at.is_(None))
        .order_by(ExpertRow.version.desc())
        .limit(1)
    )
    found = session.scalar(query)
    if found is None:
        _refuse_removed(session, task)
        raise NotFoundError.of("task", task, member_tasks(session))
    return rows.expert_record(found, task)


def _refuse_removed(session: Session, task: str) -> None:
    removed = select(TaskRow.id).where(TaskRow.name == task, TaskRow.removed_at.is_not(None))
    if session.scalar(removed) is not None:
        raise NotFoundError(
            f"task {task!r} was removed; expertbank add --task {task} --new-version makes it "
            "alive again"
        )


def members(session: Session) -> tuple[ExpertRecord, ...]:
    """Newest version of every live task, ordered by task name."""
    alive = {row.name for row in task_rows(session, include_removed=False)}
    newest = {task: row for row, task in expert_rows(session) if task in alive}
    return tuple(rows.expert_record(row, task) for task, row in newest.items())


def next_version(session: Session, task: str) -> int:
    """The version a further expert of ``task`` would get; 1 for an unknown task."""
    highest = session.scalar(
        select(func.max(ExpertRow.version))
        .join(TaskRow, TaskRow.id == ExpertRow.task_id)
        .where(TaskRow.name == task)
    )
    return (highest or 0) + 1


def generation(session: Session) -> int:
    """Experts ever added plus removals ever made.

    Neither number can shrink: experts are never deleted and ``tasks.removals`` outlives a
    task that comes back. So it grows with every change of what a router is trained on, and
    no code path can forget to count.
    """
    experts = session.scalar(select(func.count()).select_from(ExpertRow)) or 0
    removals = session.scalar(select(func.sum(TaskRow.removals))) or 0
    return experts + removals


def feature_set(session: Session, reference: str) -> FeatureSetRecord:
    """Cached features of one expert.

    Raises:
        NotFoundError: no such expert, or its features are gone.
    """
    expert, task = expert_row(session, reference)
    row = session.get(FeatureSetRow, expert.id)
    name = f"{task}@{expert.version}"
    if row is None:
        raise NotFoundError(f"expert {name} has no cached features (they were removed)")
    return rows.feature_set_record(row, name)


def feature_sets(session: Session) -> tuple[FeatureSetRecord, ...]:
    """Every cached feature set, by task and version."""
    stored = {row.expert_id: row for row in session.scalars(select(FeatureSetRow))}
    return tuple(
        rows.feature_set_record(stored[expert.id], f"{task}@{expert.version}")
        for expert, task in expert_rows(session)
        if expert.id in stored
    )


def evaluations(
    session: Session, reference: str | None, of: EvaluationsOf
) -> tuple[EvaluationRecord, ...]:
    """Measurements in the order they were made."""
    query = (
        select(EvaluationRow, TaskRow.name, ExpertRow.version)
        .join(ExpertRow, ExpertRow.id == EvaluationRow.expert_id)
        .join(TaskRow, TaskRow.id == ExpertRow.task_id)
        .order_by(EvaluationRow.id)
    )
    if reference is not None:
        query = query.where(ExpertRow.id == expert_row(session, reference)[0].id)
    if of == "oracle":
        query = query.where(EvaluationRow.router_version.is_(None))
    elif of == "routed":
        query = query.where(EvaluationRow.router_version.is_not(None))
    elif isinstance(of, int):
        query = query.where(EvaluationRow.router_version == of)
    found = session.execute(query)
    return tuple(rows.evaluation_record(row, f"{task}@{v}") for row, task, v in found)


def routers(session: Session) -> tuple[RouterRecord, ...]:
    """Routers by version."""
    found = session.scalars(select(RouterRow).order_by(RouterRow.version))
    return _with_members(session, found.all())


def router(session: Session, reference: str | int) -> RouterRecord:
    """The router named by version, ``router@N``, alias or digest prefix.

    Raises:
        NotFoundError: nothing has that name.
        InputError: the digest prefix is ambiguous.
    """
    found = session.scalars(select(RouterRow).order_by(RouterRow.version)).all()
    version = _version_named(session, str(reference), {row.version for row in found})
    if version is not None:
        return _with_members(session, [r for r in found if r.version == version])[0]
    if names.is_digest_prefix(str(reference)):
        matching = [
            (f"router@{row.version}", row) for row in found if row.digest.startswith(str(reference))
        ]
        row = names.only_one(str(reference), matching)
        if row is not None:
            return _with_members(session, [row])[0]
    known = [*session.scalars(select(AliasRow.name)), *(f"router@{r.version}" for r in found)]
    hint = "" if found else "the bank has no router yet; run: expertbank retrain-router"
    raise NotFoundError.of("router", str(reference), known, hint)


def _version_named(session: Session, reference: str, versions: set[int]) -> int | None:
    named = names.split_version(reference)
    number = reference if reference.isdecimal() and len(reference) <= 9 else ""
    if named is not None and named[0] == "router":
        number = str(named[1])
    if number:
        return int(number) if int(number) in versions else None
    return session.scalar(select(AliasRow.router_version).where(AliasRow.name == reference))


def _with_members(session: Session, found: Iterable[RouterRow]) -> tuple[RouterRecord, ...]:
    routers = list(found)
    query = (
        select(RouterMemberRow.router_id, TaskRow.name, ExpertRow.version)
        .join(ExpertRow, ExpertRow.id == RouterMemberRow.expert_id)
        .join(TaskRow, TaskRow.id == ExpertRow.task_id)
        .where(RouterMemberRow.router_id.in_([row.id for row in routers]))
        .order_by(RouterMemberRow.router_id, RouterMemberRow.position)
    )
    lists: dict[int, list[str]] = {row.id: [] for row in routers}
    for router_id, task, version in session.execute(query):
        lists[router_id].append(f"{task}@{version}")
    return tuple(rows.router_record(row, tuple(lists[row.id])) for row in routers)
