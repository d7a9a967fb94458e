"""``list`` and ``history``: what is there and how it came, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from expertbank.kinds import adapter_elsewhere
from expertbank.reports.figures import share

from .grouping import remark
from .render import Table, moment, print_table, printable, short, size
from .session import Session

if TYPE_CHECKING:
    from expertbank.records import ExpertRecord, RouterRecord

_EXPERTS = Table(
    ("expert", "digest", "labels", "accuracy", "rows", "params", "size", "added (UTC)"),
    numeric=("labels", "accuracy", "rows", "params", "size"),
    dropped=("params", "labels", "size", "rows", "accuracy"),
)
_ROUTERS = Table(
    ("router", "kind", "digest", "tasks", "accuracy", "aliases", "trained (UTC)"),
    numeric=("tasks", "accuracy"),
    dropped=("kind", "accuracy", "tasks"),
)


def list_experts(context: typer.Context) -> None:
    """List experts and routers.

    Groups are those of now; it says if the active router was fitted with others.

    Example: expertbank list
    """
    from expertbank.workflows.growing.grouping import Stale

    session: Session = context.obj
    with session.registry() as registry:
        alive = set(registry.member_tasks())
        aliases: dict[int, list[str]] = {}
        for alias in registry.aliases():
            aliases.setdefault(alias.router_version, []).append(alias.name)
        oracle = {one.expert_id: one for one in registry.evaluations(router_version="oracle")}
        experts = [(expert, oracle[expert.id]) for expert in registry.experts()]
        routers = registry.routers()
        groups = {task.name: task.group for task in registry.tasks(include_removed=True)}
        purged = set(registry.purged_experts())
        stale = Stale.of(registry)
    grouped = any(groups.values())
    elsewhere = {one.id: adapter_elsewhere(one.kind, one.labels) for one, _ in experts}
    named = any(elsewhere.values())
    # Versions come in order: the last of a task is its newest.
    newest = set({e.task: e.id for e, _ in experts if e.task in alive}.values())
    document = {
        "experts": [
            _fields(expert)
            | {
                "id": expert.id,
                "newest": expert.id in newest,
                "removed": expert.task not in alive,
                "usable": expert.id not in purged,
                "accuracy": measured.metrics.get("accuracy"),
                "pearson": measured.metrics.get("pearson"),
                "n": measured.n,
                "group": groups[expert.task],
                "external_adapter": elsewhere[expert.id],
            }
            for expert, measured in experts
        ],
        "routers": [
            _fields(router)
            | {
                "aliases": aliases.get(router.version, []),
                "usable": router.is_usable(purged),
            }
            for router in routers
        ],
        "stale": stale.to_dict(),
    }

    def show(console: Console) -> None:
        print_table(
            console,
            _with(*["group"] * grouped, *["adapter elsewhere"] * named),
            (
                (
                    _marked(
                        expert.id,
                        removed=expert.task not in alive,
                        deleted=expert.id in purged,
                    ),
                    *([groups[expert.task] or ""] if grouped else []),
                    *([printable(elsewhere[expert.id] or "")] if named else []),
                    short(expert.digest),
                    len(expert.labels),
                    _quality(measured.metrics),
                    measured.n,
                    f"{expert.adapter_params + expert.head_params:,}",
                    size(expert.bytes),
                    moment(expert.created_at),
                )
                for expert, measured in experts
            ),
        )
        print_table(
            console,
            _ROUTERS,
            (
                (
                    _marked(
                        f"router@{router.version}",
                        forgotten=router.forgotten_at is not None,
                        unusable=bool(purged.intersection(router.members)),
                    ),
                    router.kind,
                    short(router.digest),
                    len(router.members),
                    share(router.metrics.get("accuracy")),
                    ", ".join(aliases.get(router.version, [])),
                    moment(router.created_at),
                )
                for router in routers
            ),
        )

    session.answer(document, show)
    remark(session, stale)


def _with(*columns: str) -> Table:
    """The table of experts with columns that not every bank has."""
    return replace(_EXPERTS, columns=(_EXPERTS.columns[0], *columns, *_EXPERTS.columns[1:]))


def _marked(name: str, **marks: bool) -> str:
    """A name with those marks that hold."""
    held = ", ".join(mark for mark, holds in marks.items() if holds)
    return f"{name} ({held})" if held else name


def _fields(record: ExpertRecord | RouterRecord) -> dict[str, Any]:
    # Not ``asdict``, which copies every value: there may be thousands.
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _quality(metrics: Mapping[str, Any]) -> str:
    if "pearson" in metrics:
        return f"r = {share(metrics['pearson'])}"
    return share(metrics.get("accuracy"))


def history(context: typer.Context) -> None:
    """Tell what happened to the bank, in order.

    Example: expertbank history
    """
    session: Session = context.obj
    with session.registry() as registry:
        events = registry.history()
    session.answer(
        {"events": [asdict(event) for event in events]},
        lambda console: print_table(
            console,
            Table(("when (UTC)", "what"), wrapped=("what",)),
            ((moment(event.at), event.text) for event in events),
        ),
    )
