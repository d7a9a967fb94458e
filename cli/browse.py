"""``list``, ``show`` and ``history``: looking at what is there, without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from expertbank.kinds import adapter_elsewhere
from expertbank.kinds.labels import joined
from expertbank.reports.figures import share

from . import completing
from .grouping import remark
from .render import Table, moment, print_table, printable, short, size
from .session import Session

if TYPE_CHECKING:
    from expertbank.records import EvaluationRecord, ExpertRecord, RouterRecord
    from expertbank.registry.registry import Registry

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


def show(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="boolq, boolq@1, router@2, an alias, or 6 digits of a digest.",
            autocompletion=completing.named,
        ),
    ],
) -> None:
    """Show one expert or router in full.

    Example: expertbank show boolq
    """
    from expertbank.errors import NotFoundError
    from expertbank.workflows.growing.grouping import Stale

    session: Session = context.obj
    with session.registry() as registry:
        stale, purged = Stale.of(registry), registry.purged_experts()
        try:
            expert = registry.expert(name)
        except NotFoundError as missing:
            try:
                router = registry.router(name)
            except NotFoundError:
                if name.startswith("router@"):
                    raise
                raise missing from None
            run = registry.run(router.run_id) if router.run_id else None
            features = {one.expert_id: one.digest for one in registry.feature_sets()}
            document: dict[str, Any] = {
                "router": asdict(router) | {"usable": router.is_usable(purged)},
                "features": {name: features.get(name) for name in router.members},
                "evaluations": _measured(registry.evaluations(router_version=router.version)),
            }
            if router.version != stale.router:
                stale = Stale()
            document["stale"] = stale.to_dict() if stale.moves else None
        else:
            run = registry.run(expert.run_id) if expert.run_id else None
            document = {
                # The task's own labels and spec are the first version's, and stay so.
                "expert": asdict(expert)
                | {
                    "id": expert.id,
                    "spec": run.data.get("spec") if run else None,
                    "external_adapter": adapter_elsewhere(expert.kind, expert.labels),
                    "usable": expert.id not in purged,
                },
                "task": asdict(registry.task(expert.task)),
                "features": _features(registry, expert.id),
                "statistics": _statistics(registry, expert.id),
                "evaluations": _measured(registry.evaluations(expert.id)),
                "stale": stale.of_task(expert.task),
            }
        document["run"] = asdict(run) if run else None
        backbone = registry.backbone()
        document["backbone"] = backbone.named() if backbone else None
    shown = {key: value for key, value in document.items() if key != "stale" or value}
    session.answer(document, lambda console: print_tree(console, shown))
    if document["stale"]:
        remark(session, stale)


def _measured(evaluations: Iterable[EvaluationRecord]) -> list[dict[str, Any]]:
    # None where no row is right or wrong.
    return [
        asdict(one) | {"accuracy": one.metrics.get("accuracy", one.accuracy)} for one in evaluations
    ]


def _features(registry: Registry, expert: str) -> dict[str, Any] | None:
    from expertbank.errors import NotFoundError

    try:
        return asdict(registry.feature_set(expert))
    except NotFoundError:
        return None  # deleted by gc --purge-removed


def _statistics(registry: Registry, expert: str) -> dict[str, Any] | None:
    # None before the first retrain-router of a bank of before.
    return next(map(asdict, registry.statistics(expert)), None)


def print_tree(console: Console, document: dict[str, Any]) -> None:
    """Print a document of names and values, nested ones indented."""
    # A router over thousands of tasks has tens of thousands of lines: straight to the stream.
    for line in _branches(document, ""):
        console.file.write(f"{line}\n")


def _branches(document: dict[str, Any], indent: str) -> Iterator[str]:
    for key, value in document.items():
        name = printable(str(key))  # labels of users' data are keys too
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from _branches(value, indent + "  ")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            for item in value:
                yield f"{indent}{name}:"
                yield from _branches(item, indent + "  ")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            if key == "labels" and isinstance(value, list | tuple):
                text = joined(value)
            yield f"{indent}{name}: {printable(text)}"


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
            Table(("when (UTC)", "what", "which", "details"), wrapped=("details",)),
            ((moment(event.at), event.kind, event.subject, event.text) for event in events),
        ),
    )
