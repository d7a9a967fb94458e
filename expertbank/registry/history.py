"""What happened to the bank, told in order."""

from __future__ import annotations

from sqlalchemy.orm import Session

from expertbank.records import AliasEvent, ExpertRecord, HistoryEvent
from expertbank.registry import queries
from expertbank.registry.registry import FORGET, GROUP, PURGE, REMOVE
from expertbank.registry.tables import RunRow
from expertbank.wording import count, few

NAMED = 12
"""Members that a sentence about a router names; of more it tells the number."""


def history(session: Session) -> tuple[HistoryEvent, ...]:
    """Every event, oldest first; at equal times in the order in which things depend."""
    found = [*_experts(session), *_routers(session), *_aliases(session)]
    found += [*_exports(session), *_removals(session), *_moves(session)]
    found += [*_purges(session), *_forgotten(session)]
    return tuple(sorted(found, key=lambda event: event.at))


def _experts(session: Session) -> list[HistoryEvent]:
    return [
        HistoryEvent(
            expert.created_at,
            "expert-added",
            expert.id,
            _added(expert),
        )
        for expert in queries.experts(session)
    ]


def _added(expert: ExpertRecord) -> str:
    labels = f", {count(len(expert.labels), 'label')}" if expert.labels else ""
    numbers = expert.adapter_params + expert.head_params
    return f"{expert.id} added: {expert.kind}{labels}, {numbers:,} parameters"


def _routers(session: Session) -> list[HistoryEvent]:
    return [
        HistoryEvent(
            router.created_at,
            "router-trained",
            f"router@{router.version}",
            f"router@{router.version} ({router.kind}) trained over {few(router.members, NAMED)}",
        )
        for router in queries.routers(session)
    ]


def _aliases(session: Session) -> list[HistoryEvent]:
    return [
        HistoryEvent(event.created_at, "alias-moved", event.name, _moved(event))
        for event in queries.alias_events(session)
    ]


def _moved(event: AliasEvent) -> str:
    before = event.previous_version
    start = "set" if before is None else f"moved from router@{before}"
    because = f": {event.reason}" if event.reason else ""
    return f"alias {event.name} {start} to router@{event.router_version}{because}"


def _exports(session: Session) -> list[HistoryEvent]:
    return [
        HistoryEvent(
            export.created_at,
            "exported",
            export.path,
            f"router@{export.router_version} with {count(len(export.experts), 'expert')} "
            f"exported to {export.path} ({export.format})",
        )
        for export in queries.EXPORTS.all(session)
    ]


def _removals(session: Session) -> list[HistoryEvent]:
    """From runs, not from tombstones: a task that comes back loses its tombstone."""
    return [
        HistoryEvent(
            run.created_at, "task-removed", run.config["task"], f"task {run.config['task']} removed"
        )
        for run in queries.RUNS.all(session, RunRow.kind == REMOVE)
    ]


def _moves(session: Session) -> list[HistoryEvent]:
    """Changes of groups, a task each."""
    return [
        HistoryEvent(
            run.created_at, "task-grouped", task, _regrouped(task, before, run.config["group"])
        )
        for run in queries.RUNS.all(session, RunRow.kind == GROUP)
        for task, before in run.config["tasks"].items()
    ]


def _regrouped(task: str, before: str | None, now: str | None) -> str:
    if now is None:
        return f"task {task} taken out of group {before}"
    came = "" if before is None else f", out of group {before}"
    return f"task {task} put into group {now}{came}"


def _purges(session: Session) -> list[HistoryEvent]:
    return [
        HistoryEvent(
            run.created_at, "task-purged", task, f"files of the removed task {task} deleted"
        )
        for run in queries.RUNS.all(session, RunRow.kind == PURGE)
        for task in run.config["tasks"]
    ]


def _forgotten(session: Session) -> list[HistoryEvent]:
    return [
        HistoryEvent(
            run.created_at,
            "router-forgotten",
            f"router@{version}",
            f"router@{version} forgotten: the newest {run.config['keep']} and those that aliases "
            "name were kept",
        )
        for run in queries.RUNS.all(session, RunRow.kind == FORGET)
        for version in run.config["routers"]
    ]
