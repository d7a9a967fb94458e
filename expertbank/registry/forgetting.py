"""Letting go of old routers: their gates, and the choices that no other router rests on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from expertbank.clock import now
from expertbank.errors import StaleError
from expertbank.records import Forgetting, RunRecord
from expertbank.registry import rows
from expertbank.registry.tables import (
    AliasRow,
    ArtifactRow,
    EvaluationRow,
    RouterMemberRow,
    RouterRow,
    RunRow,
)

GATE = ArtifactRow.digest == RouterRow.digest


def forgettable(session: Session, keep: int) -> Forgetting:
    """What ``commit_forgetting`` would let go of now; a second time it is nothing."""
    query = select(RouterRow.version, RouterRow.digest).join(ArtifactRow, GATE)
    live = query.where(ArtifactRow.purged_at.is_(None))
    gates = {row.version: row.digest for row in session.execute(live)}
    versions = sorted(session.scalars(select(RouterRow.version)))
    newest = set(versions[-keep:])
    aliases: dict[int, list[str]] = {}
    for name, version in session.execute(
        select(AliasRow.name, AliasRow.router_version).order_by(AliasRow.name)
    ):
        aliases.setdefault(version, []).append(name)
    going = sorted(gates.keys() - newest - aliases.keys())
    lost = {gates[version] for version in going}
    lost |= _choices(session) - set(_needed(session, gates.keys() - set(going)))
    return Forgetting(
        keep,
        tuple(going),
        tuple(sorted(lost)),
        tuple((v, tuple(aliases[v])) for v in sorted(aliases.keys() - newest)),
    )


def commit_forgetting(session: Session, forgetting: Forgetting, run: RunRecord) -> None:
    """Mark the files; every row stays, for the lineage."""
    if forgetting != forgettable(session, forgetting.keep):
        raise StaleError("the bank changed while gc was at work; run: expertbank gc again")
    this = ArtifactRow.digest == bindparam("each")
    mark = update(ArtifactRow).where(this).values(purged_at=now())
    rows.for_each(session, mark, forgetting.digests)
    rows.add(session, run, RunRow)


def is_forgotten(session: Session, version: int) -> bool:
    """Whether a router's gate was deleted."""
    query = select(RouterRow.id).join(ArtifactRow, GATE)
    query = query.where(RouterRow.version == version, ArtifactRow.purged_at.is_not(None))
    return session.scalar(query) is not None


def _choices(session: Session) -> set[str]:
    """Files that hold routed choices and nothing else, as far as they are there."""
    routed = EvaluationRow.router_version.is_not(None)
    query = select(EvaluationRow.artifact_digest).join(
        ArtifactRow, ArtifactRow.digest == EvaluationRow.artifact_digest
    )
    found = set(session.scalars(query.where(routed, ArtifactRow.purged_at.is_(None))))
    return found - set(session.scalars(select(EvaluationRow.artifact_digest).where(~routed)))


def _needed(session: Session, versions: set[int]) -> Iterator[str]:
    """Choices that the experts were first measured by, and those that ``versions`` rest on."""
    stored: dict[int, list[tuple[int, str]]] = {}
    query = select(
        EvaluationRow.expert_id, EvaluationRow.router_version, EvaluationRow.artifact_digest
    ).where(EvaluationRow.router_version.is_not(None))
    for expert, under, digest in session.execute(
        query.order_by(EvaluationRow.router_version, EvaluationRow.id)
    ):
        stored.setdefault(expert, []).append((under or 0, digest))
    yield from (found[0][1] for found in stored.values())
    members = select(RouterRow.version, RouterMemberRow.expert_id).join(
        RouterMemberRow, RouterMemberRow.router_id == RouterRow.id
    )
    for version in sorted(versions):
        for _, expert in session.execute(members.where(RouterRow.version == version)):
            found = stored.get(expert, [])
            place = bisect_right(found, version, key=lambda one: one[0])
            if place:
                yield found[place - 1][1]
