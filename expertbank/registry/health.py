"""Whether rows fit each other where no constraint can say so: findings, never repairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from expertbank.records import Problem
from expertbank.registry import forgetting, purging, queries
from expertbank.registry.tables import ArtifactRow, ExpertRow, RouterMemberRow, RouterRow

RESTORE = "restore the registry from a backup"


def problems(session: Session) -> Iterator[Problem]:
    """Every row that contradicts another."""
    yield from _members(session)
    yield from _aliases(session)
    yield from _purged(session)


def triggers(expected: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Problem]:
    """What keeps frozen rows frozen and is missing, changed, or not ours; by name."""
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            state = "is missing" if name not in found else "is not the one expertbank installs"
            what = f"{state}, so frozen rows can change"
            yield Problem(what, f"trigger {name}", RESTORE)


def _members(session: Session) -> Iterator[Problem]:
    pinned, member = RouterMemberRow.expert_digest, RouterMemberRow.position
    query = (
        select(RouterRow.version, member, pinned, ExpertRow.digest)
        .join(RouterMemberRow, RouterMemberRow.router_id == RouterRow.id, isouter=True)
        .join(ExpertRow, ExpertRow.id == RouterMemberRow.expert_id, isouter=True)
        # A router without members is a row of nulls.
        .where((pinned != ExpertRow.digest) | ExpertRow.digest.is_(None))
        .order_by(RouterRow.version, member)
    )
    for version, position, said, digest in session.execute(query):
        what = f"member {position} pins {said}, the expert is {digest}"
        if position is None:
            what = "has no members"
        elif digest is None:
            what = f"member {position} is no registered expert"
        yield Problem(what, f"router@{version}", RESTORE)


def _purged(session: Session) -> Iterator[Problem]:
    """What was deleted on purpose may be missed by nobody."""
    purged = select(ArtifactRow.digest).where(ArtifactRow.purged_at.is_not(None))
    deleted = set(session.scalars(purged))
    cached = {features.expert_id for features in queries.feature_sets(session)}
    members = queries.members(session)
    for expert in members:
        if expert.digest in deleted:
            yield Problem("its file was deleted, its task is alive", expert.id, RESTORE)
        if expert.id not in cached:
            yield Problem("has no cached features, its task is alive", expert.id, RESTORE)
    if members:
        for alias in queries.aliases(session):
            gone = purging.purged_members(session, alias.router_version)
            if gone:
                what = f"names router@{alias.router_version}, which needs {', '.join(gone)}: gone"
                todo = f"run: expertbank alias {alias.name} ROUTER"
                yield Problem(what, f"alias {alias.name}", todo)


def _aliases(session: Session) -> Iterator[Problem]:
    expected: dict[str, int] = {}
    for event in queries.alias_events(session):
        before = expected.get(event.name)
        if event.previous_version != before:
            what = (
                f"an event moved it from router {event.previous_version}, the one before moved it "
                f"to {before}"
            )
            yield Problem(what, f"alias {event.name}", RESTORE)
        expected[event.name] = event.router_version
    found = {alias.name: alias.router_version for alias in queries.aliases(session)}
    for name, version in found.items():
        if forgetting.is_forgotten(session, version):
            what = f"names router@{version}, whose gate was deleted"
            yield Problem(what, f"alias {name}", f"run: expertbank alias {name} ROUTER")
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            what = f"points at router {found.get(name)}, its last event at {expected.get(name)}"
            yield Problem(what, f"alias {name}", f"run: expertbank alias {name} ROUTER")
