"""``retrain-router``: prepare, fit, measure, commit.

The gate is fitted on what the bank keeps of all tasks' rows: no old text is read, no backbone is
loaded, no expert weight is touched. Only the last step writes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from expertbank.artifacts.store import ArtifactStore, sha256_bytes
from expertbank.config import FeatureSpec
from expertbank.errors import IntegrityError, NotFoundError
from expertbank.evaluation.evidence import summary
from expertbank.records import (
    AliasRecord,
    ArtifactRecord,
    ExpertRecord,
    FeatureSetRecord,
    ProgressCallback,
    ProgressEvent,
    RouterRecord,
    RunRecord,
    no_progress,
)
from expertbank.registry.names import ACTIVE
from expertbank.routing.config import RouterConfig
from expertbank.workflows.growing.evidence import evaluations_of, evidence_of
from expertbank.workflows.presence import files_of, require_present
from expertbank.workflows.workspace import Workspace, package_versions

if TYPE_CHECKING:
    from expertbank.evaluation.routing import Routed
    from expertbank.routing.feature_file import FeatureFile
    from expertbank.routing.moments_file import MomentsFile
    from expertbank.routing.router import Router

K = TypeVar("K", "FeatureFile", "MomentsFile")
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
        old_texts_read: rows of text this took, always 0.
        seconds: time spent.
        active: whether ``active`` names this router now.
    """

    router: RouterRecord
    tasks: tuple[str, ...]
    metrics: dict[str, Any]
    seconds: float
    active: bool
    old_texts_read: int = 0

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
            "old_texts_read": self.old_texts_read,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class _Job:
    """What a router is to be fitted over, as the bank stood when the work began.

    Attributes:
        generation: of the registry; another one at the end means that the bank changed.
        experts: the members to be.
        groups: by task its group, as it is now.
        stored: by expert what is cached of its rows.
        kept: what that is, in words.
        spec: the bank's feature spec.
        store: the bank's files; like the spec asked for once, not for every file.
    """

    generation: int
    experts: tuple[ExpertRecord, ...]
    groups: Mapping[str, str | None]
    stored: Mapping[str, FeatureSetRecord]
    kept: str
    spec: FeatureSpec
    store: ArtifactStore


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
        NotFoundError: the bank has no expert yet.
        StaleError: an expert came or went meanwhile; nothing was written.
        IntegrityError: an expert's file is gone, or cached features changed on disk.
        InputError: a gate that needs rows, in a bank that keeps statistics only.
    """
    started = time.monotonic()
    job = _prepare(workspace)
    router = _fit(job, config, progress)
    measured = _measure(job, router)
    seconds = time.monotonic() - started
    record = _commit(workspace, job, config, router, measured, seconds, activate=activate)
    active = AliasRecord(ACTIVE, record.version) in workspace.registry.aliases()
    tasks = tuple(expert.task for expert in job.experts)
    return RouterResult(record, tasks, dict(measured.metrics), time.monotonic() - started, active)


def _prepare(workspace: Workspace) -> _Job:
    """The members, and what is cached of each, asked for at once: a bank may hold thousands."""
    registry = workspace.registry
    workspace.probe_writable()
    generation, experts = registry.generation(), registry.members()
    if not experts:
        raise NotFoundError("no expert to route to yet; first run: expertbank add --task T")
    groups = {task.name: task.group for task in registry.tasks()}
    found = {record.expert_id: record for record in registry.feature_sets()}
    stored = {e.id: found.get(e.id) or registry.feature_set(e.id) for e in experts}
    spec = workspace.spec
    kept = "moments" if spec.keep == "stats" else "cached features"
    store = workspace.store
    wanted = files_of(experts) | {stored[e.id].digest: f"the {kept} of {e.id}" for e in experts}
    require_present(store, wanted, "leave the task out: expertbank remove TASK")
    return _Job(generation, tuple(experts), groups, stored, kept, spec, store)


def _fit(job: _Job, config: RouterConfig, progress: ProgressCallback) -> Router:
    """The router over the features of all training rows, or over what is kept in their place."""
    from expertbank.routing.feature_file import FeatureFile
    from expertbank.routing.fit import TaskFeatures, fit_router
    from expertbank.routing.fit_moments import TaskMoments, fit_router_from_moments
    from expertbank.routing.moments_file import MomentsFile

    numbers, every = count(1), len(job.experts)

    def read(form: type[K], expert: ExpertRecord) -> K:
        number = next(numbers)
        progress(ProgressEvent(f"reading {job.kept}", number - 1, every, expert.id))
        file = _kept(job, expert, form)
        if number == every:
            progress(ProgressEvent(f"fitting the {config.kind} gate", every, every))
        return file

    def entry(e: ExpertRecord) -> tuple[str, str, str, str, str | None]:
        return e.id, e.digest, e.task, e.kind, job.groups[e.task]

    if job.spec.keep == "stats":
        moments = [TaskMoments(*entry(e), partial(read, MomentsFile, e)) for e in job.experts]
        return fit_router_from_moments(moments, config, job.spec.digest)
    tasks = []
    for expert in job.experts:
        file = read(FeatureFile, expert)
        tasks.append(TaskFeatures(*entry(expert), file.train, file.train_shapes))
    return fit_router(tasks, config, job.spec.digest)


def _measure(job: _Job, router: Router) -> _Measured:
    """What the router chooses for evaluation rows, one expert's at a time, and how well it does.

    A bank that keeps statistics has no such rows: nothing is measured.
    """
    from expertbank.evaluation.routing import routing_metrics
    from expertbank.routing.feature_file import FeatureFile
    from expertbank.workflows.choices import routed

    if job.spec.keep == "stats":
        return _Measured()
    choices, unknown = {}, []
    for expert in job.experts:
        file = _kept(job, expert, FeatureFile)
        choices[expert.id], share = routed(router, file.evaluation, file.evaluation_shapes)
        unknown += [] if share is None else [share]
    home = {expert.task: router.column_of(expert.task) for expert in job.experts}
    metrics = routing_metrics(home, {e.task: choices[e.id] for e in job.experts})
    return _Measured(
        choices, {**metrics, "unknown": sum(unknown) / len(unknown) if unknown else None}
    )


def _kept(job: _Job, expert: ExpertRecord, form: type[K]) -> K:
    """What the bank keeps of an expert's rows.

    Raises:
        IntegrityError: it changed on disk, or follows another feature spec.
    """
    data = job.store.get(job.stored[expert.id].digest)
    file = form.from_bytes(data, f"{job.kept} of {expert.id}")
    if file.feature_spec_digest != job.spec.digest:
        raise IntegrityError(f"features of {expert.id} follow another feature spec than the bank's")
    return file


def _grouped(router: Router) -> dict[str, tuple[str, ...]]:
    """The router's groups by name, each with its tasks."""
    found: dict[str, tuple[str, ...]] = {}
    for member in router.members:
        if member.group is not None:
            found[member.group] = (*found.get(member.group, ()), member.task)
    return found


def _commit(
    workspace: Workspace,
    job: _Job,
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
    features = {expert.id: job.stored[expert.id].digest for expert in job.experts}
    evidence = evidence_of(router, job.groups, measured.choices)
    about = {"features": summary(features)}
    if evidence:
        about["evidence"] = summary({name: sha256_bytes(file) for name, file in evidence.items()})
    with workspace.writing():
        members = job.experts if evidence else ()
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
            reason=f"retrain-router over {len(job.experts)} tasks",
        )
