"""How a bank stands, and what its owner would do next: read from the registry alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from expertbank.kinds import adapter_elsewhere
from expertbank.records import RouterRecord
from expertbank.registry.registry import Registry
from expertbank.reports import notebook
from expertbank.reports.figures import share, whole
from expertbank.wording import few
from expertbank.workflows.active_router import active_router
from expertbank.workflows.growing.grouping import Stale
from expertbank.workflows.growing.retrain import confused, together
from expertbank.workflows.none_alive import ADD, none_alive

RETRAIN = "expertbank retrain-router"
SHOWN = 6
"""Names that are shown; of more only how many there are."""
NONE_YET = "none yet"
REPORT, EXPORT = "expertbank forgetting-report --verify", "expertbank export DIR"
SERVE = "expertbank serve --engine URL"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do next.

    Attributes:
        command: as one would type it.
        why: what it is good for, or what is amiss.
    """

    command: str
    why: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How a bank stands.

    Attributes:
        home: where it is, without secrets.
        backbone: name of its backbone; ``None`` before there is one.
        experts: the newest expert of every live task, ``task@version``.
        removed: tasks that were removed.
        router: version of the active router; ``None`` before there is one.
        router_usable: whether ``gc`` deleted neither its gate nor the files of one of its experts;
            ``None`` before there is one.
        routing_accuracy: of the active router when it was fitted, the mean over its tasks.
        unrouted: of ``experts`` those that the active router does not know.
        retired: members of the active router that are newest of no live task.
        steps: what to do next, the most pressing first.
    """

    home: str
    backbone: str | None
    experts: tuple[str, ...]
    removed: tuple[str, ...]
    router: int | None
    router_usable: bool | None
    routing_accuracy: float | None
    unrouted: tuple[str, ...]
    retired: tuple[str, ...]
    steps: tuple[Step, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return asdict(self)

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """The same as names and values for people; several steps stand below each other."""
        router = NONE_YET
        if self.router is not None:
            router = f"router@{self.router}"
            if not self.router_usable:
                router += " (unusable: gc deleted files that it needs)"
            elif self.routing_accuracy is not None:
                router += f", routing accuracy {share(self.routing_accuracy)}"
        steps = (f"{step.command}   # {step.why}" for step in self.steps)
        return (
            ("bank", self.home),
            ("backbone", self.backbone or NONE_YET),
            ("experts", "none" if self.removed and not self.experts else _counted(self.experts)),
            *([("removed", _counted(self.removed))] if self.removed else []),
            ("router", router),
            *([("not routed", _counted(self.unrouted))] if self.unrouted else []),
            *(("" if number else "next", step) for number, step in enumerate(steps)),
        )

    def _repr_html_(self) -> str:
        return notebook.table("Bank", (), (), self.facts)


def standing(home: str, registry: Registry) -> Standing:
    """How the bank behind ``registry`` stands.

    Args:
        home: where it is, in words.
        registry: the open registry.
    """
    backbone = registry.backbone()
    experts = registry.members()
    newest = tuple(expert.id for expert in experts)
    elsewhere = any(adapter_elsewhere(expert.kind, expert.labels) for expert in experts)
    alive = {name.partition("@")[0] for name in newest}
    router = active_router(registry)
    members = router.members if router else ()
    known, current = set(members), set(newest)
    unrouted = tuple(name for name in newest if name not in known)
    retired = tuple(name for name in members if name not in current)
    tasks = registry.tasks(include_removed=True)
    removed = tuple(task.name for task in tasks if task.name not in alive)
    return Standing(
        home=home,
        backbone=backbone.reference if backbone else None,
        experts=newest,
        removed=removed,
        router=router.version if router else None,
        router_usable=router.is_usable(registry.purged_experts()) if router else None,
        routing_accuracy=router.metrics.get("accuracy") if router else None,
        unrouted=unrouted,
        retired=retired,
        steps=tuple(
            _steps(router, unrouted, retired, removed, Stale.of(registry), elsewhere=elsewhere)
            if newest
            else [Step(*none_alive(registry))]
        ),
    )


def _steps(
    router: RouterRecord | None,
    unrouted: tuple[str, ...],
    retired: tuple[str, ...],
    removed: tuple[str, ...],
    stale: Stale,
    *,
    elsewhere: bool,
) -> Iterator[Step]:
    if router is None:
        yield Step(RETRAIN, "no router chooses among the experts yet")
        return
    amiss = []
    if unrouted:
        amiss.append(f"router@{router.version} does not know {few(unrouted, SHOWN)}")
    if retired:
        amiss.append(f"it still chooses {few(retired, SHOWN)}")
    if stale.moves:
        amiss.append("tasks are grouped otherwise than it has them")
    if amiss:
        yield Step(RETRAIN, "; ".join(amiss))
        chosen = {name.partition("@")[0] for name in retired}
        # Only what is alive can be asked for by name, whatever the router chooses.
        for task in [task for task in removed if task in chosen][:SHOWN]:
            yield Step(
                f"expertbank add --task {task} --new-version", f"or this, to have {task} back"
            )
        return
    if worst := confused(router.metrics)[:1]:
        ((pair, rate),) = worst
        yield Step(
            together(pair),
            f"if both answer the same texts: {rate:.0%} of their rows go to the other task",
        )
    yield Step(REPORT, "proves what old tasks kept")
    if elsewhere:
        yield Step(SERVE, "passes texts on to adapters of an engine")
    else:
        yield Step(EXPORT, "ships the bank as one folder")
    yield Step(ADD, "lets the bank grow")


def _counted(names: tuple[str, ...]) -> str:
    return f"{whole(len(names))}: {few(names, SHOWN)}" if names else NONE_YET
