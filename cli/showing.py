"""``show``: one expert or router, in a dozen lines or in full. Without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from expertbank.kinds import adapter_elsewhere
from expertbank.kinds.labels import label_text
from expertbank.reports.figures import share
from expertbank.wording import count, few

from . import completing
from .grouping import remark
from .render import NAMED, columns_read, moment, print_facts, print_yaml, size
from .session import Session

if TYPE_CHECKING:
    from expertbank.records import EvaluationRecord
    from expertbank.registry.registry import Registry

Fact = tuple[str, Any]
_REMARKS = 3
"""Remarks, and tasks that a router knows badly, that are shown."""


def show(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="boolq, boolq@1, router@2, an alias, or 6 digits of a digest.",
            autocompletion=completing.named,
        ),
    ],
    full: Annotated[
        bool, typer.Option("--full", help="Show everything that is known of it, as YAML.")
    ] = False,
) -> None:
    """Show what one expert or router is, and how good.

    With --full also its lineage: data, settings, versions, every measurement. --json has always
    all of it.

    Example: expertbank show boolq
    """
    from expertbank.errors import NotFoundError
    from expertbank.workflows.growing.grouping import Stale

    session: Session = context.obj
    with session.registry() as registry:
        stale, purged = Stale.of(registry), registry.purged_experts()
        active = stale.router
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
    facts = [*(_of_expert(document) if "expert" in document else _of_router(document, active))]
    facts.append(("more", session.outcome.here(f"expertbank show {name} --full")))

    def show_it(console: Console) -> None:
        if full:
            print_yaml(console, document)
        else:
            print_facts(console, facts)

    session.answer(document, show_it)
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


def _of_expert(document: Mapping[str, Any]) -> Iterator[Fact]:
    """The facts of an expert that a reader asks for first."""
    expert, run = document["expert"], document["run"] or {}
    data, result = run.get("data", {}), run.get("config", {}).get("result", {})
    gone = "" if expert["usable"] else " (its files were deleted)"
    yield "expert", f"{expert['id']}{gone}"
    yield "digest", expert["digest"]
    yield "kind", f"{expert['kind']}{_labels(expert['labels'])}"
    if expert["external_adapter"]:
        yield "answered by", f"adapter {expert['external_adapter']}, elsewhere"
    else:
        yield from _measurements(expert["kind"], document["evaluations"])
        kind = run.get("config", {}).get("adapter", {}).get("kind", "")
        yield (
            "parameters",
            f"{expert['adapter_params']:,} adapter{f' ({kind})' if kind else ''} + "
            f"{expert['head_params']:,} head, {size(expert['bytes'])}",
        )
    if result.get("examples"):
        yield "trained on", f"{result['examples']:,} rows, {run['seconds']:.0f} s"
    if "source" in data:
        at = f" @ {data['revision']}" if data.get("revision") else ""
        yield "data", f"{data['source'].removeprefix('once:')}{at}"
    if "columns" in data:
        yield "columns", columns_read(data["columns"])
    yield from _first("remark", data.get("remarks", ()))
    if document["task"]["group"]:
        yield "group", document["task"]["group"]
    yield "added", f"{moment(expert['created_at'])} UTC"
    if document["task"]["removed_at"]:
        yield "removed", f"{moment(document['task']['removed_at'])} UTC"
    yield from _backbone(document)


def _measurements(kind: str, evaluations: Sequence[Mapping[str, Any]]) -> Iterator[Fact]:
    """Quality with the task given, and as routed: what is stored holds under later routers too."""
    from expertbank.errors import ExpertBankError

    from .experts import quality

    by_router = {one["router_version"]: one["metrics"] for one in evaluations}
    given = by_router.pop(None, None)
    if given is not None:
        try:
            yield from quality(kind, given)
        except ExpertBankError:  # of a kind that is not installed here
            yield "accuracy", share(given.get("accuracy"))
    if by_router:
        last = max(by_router)
        found = by_router[last]
        yield (
            "routed",
            f"{share(found.get('quality'))} since router@{last}, with "
            f"{share(found.get('routing_accuracy'))} of its rows sent to it",
        )


def _of_router(document: Mapping[str, Any], active: int | None) -> Iterator[Fact]:
    """The facts of a router that a reader asks for first."""
    router, run = document["router"], document["run"] or {}
    metrics, name = router["metrics"], f"router@{router['version']}"
    marks = ["active"] * (router["version"] == active) + ["unusable"] * (not router["usable"])
    yield "router", f"{name} ({', '.join(marks)})" if marks else name
    yield "digest", router["digest"]
    yield "kind", f"{router['kind']}, {router['params']:,} parameters"
    yield "tasks", f"{len(router['members']):,}: {few(router['members'], NAMED)}"
    yield "accuracy", f"{share(metrics.get('accuracy'))} of the evaluation rows reach their task"
    per_task = metrics.get("per_task", {})
    low = sorted((value, task) for task, value in per_task.items() if value < 1)
    if low:
        shown = [f"{task} {share(value)}" for value, task in low]
        yield "lowest", few(shown, _REMARKS)
    if router["groups"]:
        named = [f"{group} ({', '.join(tasks)})" for group, tasks in router["groups"].items()]
        yield "groups", few(named, NAMED)
    seconds = f", {run['seconds']:.0f} s" if run else ""
    yield "trained", f"{moment(router['created_at'])} UTC{seconds}"
    yield from _backbone(document)


def _backbone(document: Mapping[str, Any]) -> Iterator[Fact]:
    if document["backbone"]:
        yield "backbone", document["backbone"]["reference"]


def _labels(labels: Sequence[str]) -> str:
    if not labels:
        return ""
    shown = few([label_text(label, among=True) for label in labels], NAMED)
    return f", {count(len(labels), 'label')}: {shown}"


def _first(name: str, said: Sequence[str]) -> Iterator[Fact]:
    yield from ((name, one) for one in said[:_REMARKS])
    if len(said) > _REMARKS:
        yield "", f"and {len(said) - _REMARKS:,} more"
