"""Which files the bank still needs, and which only removed tasks do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from expertbank.registry import queries, rows
from expertbank.registry.tables import (
    AliasRow,
    ArtifactRow,
    EvaluationRow,
    ExpertRow,
    FeatureSetRow,
    RouterMemberRow,
    RouterRow,
    TaskRow,
)


@dataclass(frozen=True, slots=True)
class Purge:
    """What letting go of removed tasks means.

    Attributes:
        tasks: removed tasks whose files go.
        experts: their experts, ``task@version``.
        digests: files that nothing else needs.
        routers: versions that need one of these experts and can then not be used again.
        in_use: removed tasks whose files stay, with the aliases that still need them.
    """

    tasks: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    routers: tuple[int, ...] = ()
    in_use: tuple[tuple[str, tuple[str, ...]], ...] = ()


def plan(session: Session) -> Purge:
    """What ``carry_out`` would do now; a second time it is nothing."""
    removed = {row.name for row in queries.task_rows(session, True) if row.removed_at is not None}
    needed = _needed_by_aliases(session)
    # With no task alive no router can ever be made again: then an alias protects nothing.
    protected = removed & needed.keys() if queries.members(session) else set()
    going = [(e, task) for e, task in queries.expert_rows(session) if task in removed - protected]
    ids = {expert.id for expert, _ in going}
    digests = _digests_of(session, ids) - _needed_by_others(session, ids)
    alive = session.scalars(select(ArtifactRow.digest).where(ArtifactRow.purged_at.is_(None)))
    digests &= set(alive)
    cached = session.scalars(select(FeatureSetRow.expert_id)).all()
    # An expert that has nothing left to lose was purged before.
    going = [(e, t) for e, t in going if e.id in cached or digests & _digests_of(session, {e.id})]
    ids = {expert.id for expert, _ in going}
    members = select(RouterRow.version).join(
        RouterMemberRow, RouterMemberRow.router_id == RouterRow.id
    )
    routers = session.scalars(members.where(RouterMemberRow.expert_id.in_(ids)).distinct())
    return Purge(
        tuple(sorted({task for _, task in going})),
        tuple(f"{task}@{expert.version}" for expert, task in going),
        tuple(sorted(digests)),
        tuple(sorted(routers)),
        tuple((task, needed[task]) for task in sorted(protected)),
    )


def carry_out(session: Session, purge: Purge) -> None:
    """Delete cached features, mark what experts and evaluations still name, drop the rest."""
    named = {f"{task}@{e.version}": e.id for e, task in queries.expert_rows(session)}
    ids = {named[expert] for expert in purge.experts}
    session.execute(delete(FeatureSetRow).where(FeatureSetRow.expert_id.in_(ids)))
    kept = set(session.scalars(select(ExpertRow.digest)))
    kept |= set(session.scalars(select(EvaluationRow.artifact_digest)))
    for digest in purge.digests:
        if digest in kept:
            mark = update(ArtifactRow).where(ArtifactRow.digest == digest)
            session.execute(mark.values(purged_at=rows.now()))
        else:
            session.execute(delete(ArtifactRow).where(ArtifactRow.digest == digest))
    session.flush()


def purged_members(session: Session, version: int) -> list[str]:
    """Experts of a router whose files were deleted on purpose."""
    query = (
        select(TaskRow.name, ExpertRow.version)
        .join(ExpertRow, ExpertRow.task_id == TaskRow.id)
        .join(RouterMemberRow, RouterMemberRow.expert_id == ExpertRow.id)
        .join(RouterRow, RouterRow.id == RouterMemberRow.router_id)
        .join(ArtifactRow, ArtifactRow.digest == ExpertRow.digest)
        .where(RouterRow.version == version, ArtifactRow.purged_at.is_not(None))
        .order_by(RouterMemberRow.position)
    )
    return [f"{task}@{number}" for task, number in session.execute(query)]


def _needed_by_aliases(session: Session) -> dict[str, tuple[str, ...]]:
    """Task to the aliases whose router has one of its experts."""
    query = (
        select(TaskRow.name, AliasRow.name)
        .join(ExpertRow, ExpertRow.task_id == TaskRow.id)
        .join(RouterMemberRow, RouterMemberRow.expert_id == ExpertRow.id)
        .join(RouterRow, RouterRow.id == RouterMemberRow.router_id)
        .join(AliasRow, AliasRow.router_version == RouterRow.version)
    )
    found: dict[str, set[str]] = {}
    for task, alias in session.execute(query):
        found.setdefault(task, set()).add(alias)
    return {task: tuple(sorted(aliases)) for task, aliases in found.items()}


def _digests_of(session: Session, experts: Iterable[int]) -> set[str]:
    """Files that belong to these experts: weights, features, evidence of every evaluation."""
    ids = set(experts)
    found = set(session.scalars(select(ExpertRow.digest).where(ExpertRow.id.in_(ids))))
    found |= set(
        session.scalars(select(FeatureSetRow.digest).where(FeatureSetRow.expert_id.in_(ids)))
    )
    evidence = select(EvaluationRow.artifact_digest).where(EvaluationRow.expert_id.in_(ids))
    return found | set(session.scalars(evidence))


def _needed_by_others(session: Session, experts: set[int]) -> set[str]:
    others = set(session.scalars(select(ExpertRow.id))) - experts
    return _digests_of(session, others) | set(session.scalars(select(RouterRow.digest)))
