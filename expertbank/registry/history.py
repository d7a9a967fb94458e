"""What happened to the bank, told in order."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from expertbank.records import HistoryEvent
from expertbank.registry import queries
from expertbank.registry.tables import AliasEventRow, ExportRow


def events(session: Session) -> tuple[HistoryEvent, ...]:
    """Every event, oldest first; equal moments keep the order in which things depend."""
    found = [*_experts(session), *_routers(session), *_aliases(session)]
    found += [*_exports(session), *_removals(session)]
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
    return [
        HistoryEvent(row.removed_at, "task-removed", row.name, f"task {row.name} removed")
        for row in queries.task_rows(session, include_removed=True)
        if row.removed_at is not None
    ]
