"""What happened to the bank, told in order."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from expertbank.records import HistoryEvent
from expertbank.registry import queries
from expertbank.registry.tables import AliasEventRow, ExportRow, RunRow

REMOVE, PURGE = "remove", "purge"
"""Kinds of the runs that are kept of what makes nothing: they are how history knows of it."""


def events(session: Session) -> tuple[HistoryEvent, ...]:
    """Every event, oldest first; equal moments keep the order in which things depend."""
    found = [*_experts(session), *_routers(session), *_aliases(session)]
    found += [*_exports(session), *_removals(session), *_purges(session)]
    return tuple(sorted(found, key=lambda event: event.at))


def _experts(session: Session) -> list[HistoryEvent]:
    return [
        HistoryEvent(
            row.created_at,
            "expert-added",
            f"{task}@{row.version}",
            f"expert {task}@{row.version} added: {row.kind}, {len(row.labels)} labels, "
            f"{row.adapter_params} adapter and {row.head_params} head parameters",
        )
        for row, task in queries.expert_rows(session)
    ]


def _routers(session: Session) -> list[HistoryEvent]:
    return [
        HistoryEvent(
            router.created_at,
            "router-trained",
            f"router@{router.version}",
            f"router@{router.version} ({router.kind}) trained over {', '.join(router.members)}",
        )
        for router in queries.routers(session)
    ]


def _aliases(session: Session) -> list[HistoryEvent]:
    found = session.scalars(select(AliasEventRow).order_by(AliasEventRow.id))
    return [HistoryEvent(row.created_at, "alias-moved", row.name, _moved(row)) for row in found]


def _moved(row: AliasEventRow) -> str:
    start = "set" if row.previous_version is None else f"moved from router@{row.previous_version}"
    because = f": {row.reason}" if row.reason else ""
    return f"alias {row.name} {start} to router@{row.router_version}{because}"


def _exports(session: Session) -> list[HistoryEvent]:
    found = session.scalars(select(ExportRow).order_by(ExportRow.id))
    return [
        HistoryEvent(
            row.created_at,
            "exported",
            row.path,
            f"router@{row.router_version} with {len(row.experts)} experts exported to {row.path} "
            f"({row.format})",
        )
        for row in found
    ]


def _removals(session: Session) -> list[HistoryEvent]:
    """From runs, not from tombstones: a task that comes back loses its tombstone."""
    found = session.scalars(select(RunRow).where(RunRow.kind == REMOVE).order_by(RunRow.id))
    return [
        HistoryEvent(
            row.created_at, "task-removed", row.config["task"], f"task {row.config['task']} removed"
        )
        for row in found
    ]


def _purges(session: Session) -> list[HistoryEvent]:
    found = session.scalars(select(RunRow).where(RunRow.kind == PURGE).order_by(RunRow.id))
    return [
        HistoryEvent(
            row.created_at,
            "task-purged",
            task,
            f"files of the removed task {task} deleted",
        )
        for row in found
        for task in row.config["tasks"]
    ]
