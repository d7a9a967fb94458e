"""Which files the bank still needs, and letting go of those that only removed tasks do."""

from __future__ import annotations

from itertools import chain

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from expertbank.clock import now
from expertbank.errors import StaleError
from expertbank.records import Purge, RunRecord
from expertbank.registry import queries, rows
from expertbank.registry.queries import EXPERT_ID, OF_TASK
from expertbank.registry.tables import (
    AliasRow,
    ArtifactRow,
    EvaluationRow,
    ExpertRow,
    FeatureSetRow,
    RouterMemberRow,
    RouterRow,
    RunRow,
    StatisticsRow,
    TaskRow,
)


def purgeable(session: Session) -> Purge:
    """What ``commit_purge`` would let go of now; a second time it is nothing."""
    needed = _needed_by_aliases(session)
    removed = set(session.scalars(select(TaskRow.name).where(~queries.ALIVE)))
    # With no task alive no router can ever be made again: then an alias protects nothing.
    protected = removed & needed.keys() if queries.has_members(session) else set()
    going = removed - protected
    files = _files(session)
    owned = select(ExpertRow.id, TaskRow.name, EXPERT_ID).join(TaskRow, OF_TASK)
    owners = session.execute(owned.order_by(TaskRow.name, ExpertRow.version)).all()
    lost = _joined(files, {number for number, task, _ in owners if task in going})
    lost -= _joined(files, {number for number, task, _ in owners if task not in going})
    lost -= set(session.scalars(select(RouterRow.digest)))
    lost &= set(session.scalars(select(ArtifactRow.digest).where(ArtifactRow.purged_at.is_(None))))
    cached = set(session.scalars(select(FeatureSetRow.expert_id)))
    # An expert that has nothing left to lose was purged before.
    experts = {
        number: (task, name)
        for number, task, name in owners
        if task in going and (number in cached or lost & files[number])
    }
    membership = select(RouterMemberRow.expert_id, RouterRow.version)
    membership = membership.join(RouterRow, RouterRow.id == RouterMemberRow.router_id)
    routers = {version for number, version in session.execute(membership) if number in experts}
    return Purge(
        tuple(sorted({task for task, _ in experts.values()})),
        tuple(name for _, name in experts.values()),
        tuple(sorted(lost)),
        tuple(sorted(routers)),
        tuple((task, needed[task]) for task in sorted(protected)),
    )


def commit_purge(session: Session, purge: Purge, run: RunRecord) -> None:
    """Delete features and statistics, mark what experts and evaluations name, drop the rest."""
    if purge != purgeable(session):
        raise StaleError("the bank changed while gc was at work; run: expertbank gc again")
    numbers = queries.expert_numbers(session)
    for table in (FeatureSetRow, StatisticsRow):
        own = delete(table).where(table.expert_id == bindparam("each"))
        rows.for_each(session, own, [numbers[name] for name in purge.experts])
    kept = set(session.scalars(select(ExpertRow.digest)))
    kept |= set(session.scalars(select(EvaluationRow.artifact_digest)))
    this = ArtifactRow.digest == bindparam("each")
    mark = update(ArtifactRow).where(this).values(purged_at=now())
    rows.for_each(session, mark, [digest for digest in purge.digests if digest in kept])
    drop = delete(ArtifactRow).where(this)
    rows.for_each(session, drop, [digest for digest in purge.digests if digest not in kept])
    rows.add(session, run, RunRow)


def purged_experts(session: Session) -> tuple[str, ...]:
    """``task@version`` of all whose file was deleted on purpose."""
    query = select(EXPERT_ID).select_from(ExpertRow).join(TaskRow, OF_TASK)
    query = query.join(ArtifactRow, ArtifactRow.digest == ExpertRow.digest)
    return tuple(session.scalars(query.where(ArtifactRow.purged_at.is_not(None))))


def purged_members(session: Session, version: int) -> list[str]:
    """Experts of a router whose files were deleted on purpose."""
    query = (
        select(EXPERT_ID)
        .select_from(ExpertRow)
        .join(TaskRow, OF_TASK)
        .join(RouterMemberRow, RouterMemberRow.expert_id == ExpertRow.id)
        .join(RouterRow, RouterRow.id == RouterMemberRow.router_id)
        .join(ArtifactRow, ArtifactRow.digest == ExpertRow.digest)
        .where(RouterRow.version == version, ArtifactRow.purged_at.is_not(None))
        .order_by(RouterMemberRow.position)
    )
    return list(session.scalars(query))


def _needed_by_aliases(session: Session) -> dict[str, tuple[str, ...]]:
    """Task to the aliases whose router has one of its experts."""
    query = (
        select(TaskRow.name, AliasRow.name)
        .join(ExpertRow, OF_TASK)
        .join(RouterMemberRow, RouterMemberRow.expert_id == ExpertRow.id)
        .join(RouterRow, RouterRow.id == RouterMemberRow.router_id)
        .join(AliasRow, AliasRow.router_version == RouterRow.version)
        .distinct()
        .order_by(TaskRow.name, AliasRow.name)
    )
    found: dict[str, list[str]] = {}
    for task, alias in session.execute(query):
        found.setdefault(task, []).append(alias)
    return {task: tuple(aliases) for task, aliases in found.items()}


def _files(session: Session) -> dict[int, set[str]]:
    """Every expert's files: weights, features, statistics, what was stored of each evaluation."""
    found: dict[int, set[str]] = {}
    for number, digest in chain(
        session.execute(select(ExpertRow.id, ExpertRow.digest)),
        session.execute(select(FeatureSetRow.expert_id, FeatureSetRow.digest)),
        session.execute(select(StatisticsRow.expert_id, StatisticsRow.digest)),
        session.execute(select(EvaluationRow.expert_id, EvaluationRow.artifact_digest)),
    ):
        found.setdefault(number, set()).add(digest)
    return found


def _joined(files: dict[int, set[str]], experts: set[int]) -> set[str]:
    return set().union(*(files[number] for number in experts))
