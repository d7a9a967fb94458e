"""Whether the registry is what it should be: findings, never repairs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from expertbank.errors import ExpertBankError, LockedError
from expertbank.records import Problem
from expertbank.registry import purging, queries, schema, triggers
from expertbank.registry.session import read
from expertbank.registry.tables import (
    AliasEventRow,
    AliasRow,
    ArtifactRow,
    ExpertRow,
    RouterMemberRow,
    RouterRow,
)

RESTORE = "restore the registry from a backup"


def problems(engine: Engine, path: Path) -> tuple[Problem, ...]:
    """Everything that is wrong with the registry; empty when nothing is.

    Raises:
        LockedError: another process kept the file locked.
    """
    try:
        return tuple(_problems(engine, path))
    except LockedError:
        raise
    except (ExpertBankError, SQLAlchemyError) as error:
        return (Problem(str(error), str(path), RESTORE),)


def _problems(engine: Engine, path: Path) -> Iterator[Problem]:
    revision = schema.current_revision(path)
    if revision != schema.HEAD:
        todo = "run: expertbank db upgrade" if revision in schema.REVISIONS else RESTORE
        yield Problem(f"schema is {revision}, not {schema.HEAD}", str(path), todo)
        return
    with read(engine) as session:
        for line in schema.integrity(session.connection()):
            yield Problem(line, str(path), RESTORE)
        yield from _triggers(session)
        yield from _members(session)
        yield from _aliases(session)
        yield from _purged(session)


def _triggers(session: Session) -> Iterator[Problem]:
    expected, found = triggers.definitions(), triggers.installed(session.connection())
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            state = "is missing" if name not in found else "is not the one expertbank installs"
            yield Problem(f"{state}, so frozen rows can change", f"trigger {name}", RESTORE)


def _members(session: Session) -> Iterator[Problem]:
    query = (
        select(RouterRow.version, RouterMemberRow, ExpertRow.digest)
        .join(RouterMemberRow, RouterMemberRow.router_id == RouterRow.id, isouter=True)
        .join(ExpertRow, ExpertRow.id == RouterMemberRow.expert_id, isouter=True)
        .order_by(RouterRow.version, RouterMemberRow.position)
    )
    for version, member, digest in session.execute(query):
        where = f"router@{version}"
        if member is None:
            yield Problem("has no members", where, RESTORE)
        elif digest is None:
            yield Problem(f"member {member.position} is no registered expert", where, RESTORE)
        elif digest != member.expert_digest:
            what = f"member {member.position} pins {member.expert_digest}, the expert is {digest}"
            yield Problem(what, where, RESTORE)


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
        for alias in session.scalars(select(AliasRow).order_by(AliasRow.name)):
            gone = purging.purged_members(session, alias.router_version)
            if gone:
                what = f"names router@{alias.router_version}, which needs {', '.join(gone)}: gone"
                todo = f"run: expertbank alias {alias.name} ROUTER"
                yield Problem(what, f"alias {alias.name}", todo)


def _aliases(session: Session) -> Iterator[Problem]:
    # Later events overwrite earlier ones: what remains is where each alias should point.
    events = session.scalars(select(AliasEventRow).order_by(AliasEventRow.id))
    expected = {event.name: event.router_version for event in events}
    found = {alias.name: alias.router_version for alias in session.scalars(select(AliasRow))}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            what = f"points at router {found.get(name)}, its last event at {expected.get(name)}"
            yield Problem(what, f"alias {name}", f"run: expertbank alias {name} ROUTER")
