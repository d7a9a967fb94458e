"""``retrain-router``: prepare, sum, solve, measure, commit.

The gate is solved from exact sums over all tasks' rows, which are those of the last fit and what
is new: no old text is read, no backbone is loaded, no expert weight is touched. Only the last step
registers a router; statistics that an older bank lacks are made and kept before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from expertbank.artifacts.store import sha256_bytes
from expertbank.evaluation.evidence import summary
from expertbank.records import (
    AliasRecord,
    ArtifactRecord,
    ProgressCallback,
    ProgressEvent,
    RouterRecord,
    RunRecord,
    no_progress,
)
from expertbank.registry.names import ACTIVE
from expertbank.reports import notebook
from expertbank.reports.figures import share, whole
from expertbank.routing.config import RouterConfig
from expertbank.wording import count
from expertbank.workflows.environment import package_versions
from expertbank.workflows.growing.evidence import evaluations_of, evidence_of
from expertbank.workflows.growing.members import (
    Job,
    features_of,
    gather,
    make_missing,
    require_rows,
)
from expertbank.workflows.growing.solve import solve
from expertbank.workflows.workspace import Workspace

if TYPE_CHECKING:
    from expertbank.evaluation.routing import Routed
    from expertbank.routing.router import Router

UNMEASURED: dict[str, Any] = {
    "accuracy": None,
    "per_task": {},
    "confusions": [],
    "calibration_error": None,
    "unknown": None,
}
"""Metrics where no evaluation row is kept; `forgetting-report` reads the source again."""


@dataclass(frozen=True, slots=True)
class RouterResult:
    """What was fitted.

    Attributes:
        router: the registered router.
        tasks: names of its members.
        metrics: on evaluation rows, ``accuracy`` (mean of per-task routing accuracies),
            ``per_task``, ``confusions`` (pairs above 10%), ``calibration_error`` (expected, of
            the confidences) and ``unknown`` (share of known rows taken for unknown; ``None``
            where it is not judged); every task weighs the same. Where the bank keeps no
            evaluation features all of it is ``None`` or empty.
        cost: seconds to ``read`` what is new (and to make statistics that were not there), to
            ``add`` it to the sums of the last fit, to ``solve`` and to ``evaluate``.
        put_on_grid: experts of an older bank whose features or moments were put on the grid now;
            their statistics are kept, so that is done once.
        unmeasured: tasks none of whose evaluation rows are kept here; metrics leave them out.
        old_texts_read: rows of text this took, always 0.
        seconds: time spent.
        active: whether ``active`` names this router now.
    """

    router: RouterRecord
    tasks: tuple[str, ...]
    metrics: dict[str, Any]
    seconds: float
    active: bool
    cost: Mapping[str, float] = field(default_factory=dict)
    put_on_grid: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()
    old_texts_read: int = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """Which tasks it takes for each other, and what to do about it."""
        return tuple(
            f"{' and '.join(pair)} are taken for each other in {rate:.0%} of rows; if both answer "
            f"the same texts, let them answer together: {together(pair)}; otherwise name the task "
            "where you know it: predict --task"
            for pair, rate in confused(self.metrics)
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is particular about this fit, in sentences."""
        found = []
        if self.put_on_grid:
            found.append(
                f"features of {count(len(self.put_on_grid), 'expert')} of before were rounded to "
                "multiples of 1/32 and summed; the sums are kept, so this is done once"
            )
        if self.unmeasured and self.metrics["per_task"]:
            found.append(
                f"not measured, as no evaluation row is kept of them: {', '.join(self.unmeasured)}"
            )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """What ``retrain-router --json`` answers."""
        return {
            "router": {
                "version": self.router.version,
                "kind": self.router.kind,
                "digest": self.router.digest,
                "params": self.router.params,
                "active": self.active,
            },
            "tasks": list(self.tasks),
            "metrics": self.metrics,
            "unmeasured": list(self.unmeasured),
            "put_on_grid": list(self.put_on_grid),
            "warnings": list(self.warnings),
            "cost": {name: round(seconds, 3) for name, seconds in self.cost.items()},
            "old_texts_read": self.old_texts_read,
            "seconds": round(self.seconds, 3),
        }

    def _repr_html_(self) -> str:
        router, accuracy = self.router, self.metrics["accuracy"]
        return notebook.table(
            f"router@{router.version}",
            ("task", "routed to it"),
            [(task, share(value)) for task, value in self.metrics["per_task"].items()],
            [
                ("gate", f"{router.kind}, {whole(router.params)} parameters"),
                ("digest", router.digest),
                ("routing accuracy", f"{share(accuracy)} (mean over tasks)"),
                ("active", "yes" if self.active else "no"),
                ("old texts read", self.old_texts_read),
            ],
        )


def confused(metrics: Mapping[str, Any]) -> list[tuple[tuple[str, str], float]]:
    """Pairs of tasks that a router takes for each other, and in what share of rows; worst first."""
    pairs = [(tuple(one["tasks"]), one["rate"]) for one in metrics.get("confusions") or ()]
    return sorted(pairs, key=lambda pair: -pair[1])


def together(pair: tuple[str, str]) -> str:
    """The command that lets two tasks answer together."""
    return f"expertbank group NAME {' '.join(pair)}"


@dataclass(frozen=True, slots=True)
class _Measured:
    """A router's choices for evaluation rows by expert, and what they come to."""

    choices: Mapping[str, Routed] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=UNMEASURED.copy)


def retrain_router(
    workspace: Workspace,
    config: RouterConfig,
    *,
    activate: bool = True,
    progress: ProgressCallback = no_progress,
) -> RouterResult:
    """Fit, measure and register a router over the newest expert of every task.

    Raises:
        NotFoundError: the bank has no live expert.
        StaleError: an expert came or went meanwhile; no router was registered.
        IntegrityError: an expert's file is gone, or what is kept of its rows changed on disk.
        InputError: a gate that needs rows, in a bank that keeps statistics only.
    """
    started = time.monotonic()
    job = gather(workspace)
    if config.gate.fit_moments is None:
        require_rows(job, config)
    make_missing(workspace, job, progress)
    router = solve(workspace, job, config, progress)
    with job.clock.on("evaluate"):
        measured = _measure(job, router)
    seconds = time.monotonic() - started
    record = _commit(workspace, job, config, router, measured, seconds, activate=activate)
    state = "is active" if activate else "was registered"
    told = f"router@{record.version} {state}"
    progress(ProgressEvent("registering the router", 1, 1, lasting=told))
    active = AliasRecord(ACTIVE, record.version) in workspace.registry.aliases()
    there = {expert.task for expert in job.measured}
    return RouterResult(
        record,
        tuple(expert.task for expert in job.experts),
        dict(measured.metrics),
        time.monotonic() - started,
        active,
        job.clock.seconds,
        tuple(job.made),
        tuple(expert.task for expert in job.experts if expert.task not in there),
    )


def _measure(job: Job, router: Router) -> _Measured:
    """What the router chooses for evaluation rows, one expert's at a time, and how well it does.

    Experts none of whose rows are kept are left out.
    """
    from expertbank.evaluation.routing import routing_metrics
    from expertbank.workflows.choices import routed

    if not job.measured:
        return _Measured()
    choices, unknown = {}, []
    for expert in job.measured:
        file = features_of(job, expert.id)
        choices[expert.id], strange = routed(
            *(router, file.evaluation, file.evaluation_shapes),
            *(router.column_of(expert.task), file.evaluation_sureness),
        )
        unknown += [] if strange is None else [strange]
    home = {expert.task: router.column_of(expert.task) for expert in job.experts}
    metrics = routing_metrics(home, {e.task: choices[e.id] for e in job.measured})
    return _Measured(
        choices, {**metrics, "unknown": sum(unknown) / len(unknown) if unknown else None}
    )


def _grouped(router: Router) -> dict[str, tuple[str, ...]]:
    """The router's groups by name, each with its tasks."""
    found: dict[str, tuple[str, ...]] = {}
    for member in router.members:
        if member.group is not None:
            found[member.group] = (*found.get(member.group, ()), member.task)
    return found


def _commit(
    workspace: Workspace,
    job: Job,
    config: RouterConfig,
    router: Router,
    measured: _Measured,
    seconds: float,
    *,
    activate: bool,
) -> RouterRecord:
    """Store the router and those of its choices that are new, then register them.

    Raises:
        StaleError: an expert came or went meanwhile; nothing was registered.
    """
    registry, spec = workspace.registry, job.spec
    data = router.to_bytes()
    features = {expert.id: job.features[expert.id].digest for expert in job.experts}
    evidence = evidence_of(router, job.groups, measured.choices)
    about = {"features": summary(features)}
    if evidence:
        about["evidence"] = summary({name: sha256_bytes(file) for name, file in evidence.items()})
    with workspace.writing():
        members = job.measured
        evaluations, new = evaluations_of(
            registry, job.store, members, router, measured.choices, evidence
        )
        files = [("router", data), *(("routed", evidence[name]) for name in new)]
        artifacts = [ArtifactRecord(job.store.put(file), kind, len(file)) for kind, file in files]
        return registry.commit_router(
            RouterRecord(
                0,
                router.kind,
                artifacts[0].digest,
                router.parameter_count,
                tuple(member.id for member in router.members),
                spec.digest,
                measured.metrics,
                groups=_grouped(router),
            ),
            RunRecord(
                "retrain-router",
                config.to_dict(),
                config.seed,
                {"packages": package_versions()},
                about,
                spec.backbone_digest,
                seconds,
            ),
            artifacts,
            evaluations,
            expected_generation=job.generation,
            activate=activate,
            members={expert.id: expert.digest for expert in job.experts},
            reason=f"retrain-router over {count(len(job.experts), 'task')}",
        )
