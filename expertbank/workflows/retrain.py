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
from typing import TYPE_CHECKING, Any

from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import IntegrityError, NotFoundError
from expertbank.records import (
    AliasRecord,
    ArtifactRecord,
    EvaluationRecord,
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
from expertbank.workflows.workspace import Workspace, package_versions

if TYPE_CHECKING:
    from expertbank.evaluation.evidence import RoutedEvidence
    from expertbank.routing.feature_file import FeatureFile
    from expertbank.routing.moments_file import MomentsFile
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
        """The machine contract's form."""
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
        groups: by task its group.
        stored: by expert what is cached of its rows.
    """

    generation: int
    experts: tuple[ExpertRecord, ...]
    groups: Mapping[str, str | None]
    stored: Mapping[str, FeatureSetRecord]


@dataclass(frozen=True, slots=True)
class _Measured:
    """A router's choices for evaluation rows by expert, and what they come to."""

    choices: Mapping[str, RoutedEvidence] = field(default_factory=dict)
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
        IntegrityError: cached features changed on disk.
        InputError: a gate that needs rows, in a bank that keeps statistics only.
    """
    started = time.monotonic()
    job = _prepare(workspace)
    fit = _on_moments if workspace.spec.keep == "stats" else _on_features
    router, measured = fit(workspace, job, config, progress)
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
    return _Job(generation, tuple(experts), groups, stored)


def _on_features(
    workspace: Workspace, job: _Job, config: RouterConfig, progress: ProgressCallback
) -> tuple[Router, _Measured]:
    """The router, what it chose for every evaluation row, and how well it did."""
    from expertbank.evaluation.routing import routing_metrics
    from expertbank.routing.fit import TaskFeatures, fit_router
    from expertbank.workflows.choices import routed_evidence

    files = {}
    for number, expert in enumerate(job.experts):
        progress(ProgressEvent("reading cached features", number, len(job.experts), expert.id))
        files[expert.id] = _features(workspace, job, expert)
    _tell_of_fitting(job, config, progress)
    tasks = [
        TaskFeatures(*_entry(job, e), files[e.id].train, files[e.id].train_shapes)
        for e in job.experts
    ]
    router = fit_router(tasks, config, workspace.spec.digest)
    routed = {
        name: routed_evidence(router, file.evaluation, file.evaluation_shapes)
        for name, file in files.items()
    }
    choices = {name: evidence for name, (evidence, _) in routed.items()}
    found = [share for _, share in routed.values() if share is not None]
    unknown = sum(found) / len(found) if found else None
    home = {expert.task: router.column_of(expert.task) for expert in job.experts}
    by_task = {expert.task: choices[expert.id] for expert in job.experts}
    metrics = {**routing_metrics(home, by_task), "unknown": unknown}
    return router, _Measured(choices, metrics)


def _on_moments(
    workspace: Workspace, job: _Job, config: RouterConfig, progress: ProgressCallback
) -> tuple[Router, _Measured]:
    """The router from moments, read one by one. No evaluation row is kept to measure it on."""
    from expertbank.routing.fit_moments import TaskMoments, fit_router_from_moments

    numbers = count()

    def moments(expert: ExpertRecord) -> MomentsFile:
        number = next(numbers)
        progress(ProgressEvent("reading moments", number, len(job.experts), expert.id))
        file = _moments(workspace, job, expert)
        if number + 1 == len(job.experts):
            _tell_of_fitting(job, config, progress)
        return file

    tasks = [TaskMoments(*_entry(job, e), partial(moments, e)) for e in job.experts]
    return fit_router_from_moments(tasks, config, workspace.spec.digest), _Measured()


def _entry(job: _Job, expert: ExpertRecord) -> tuple[str, str, str, str, str | None]:
    return expert.id, expert.digest, expert.task, expert.kind, job.groups[expert.task]


def _tell_of_fitting(job: _Job, config: RouterConfig, progress: ProgressCallback) -> None:
    every = len(job.experts)
    progress(ProgressEvent(f"fitting the {config.kind} gate", every, every))


def _features(workspace: Workspace, job: _Job, expert: ExpertRecord) -> FeatureFile:
    from expertbank.routing.feature_file import FeatureFile

    data = workspace.store.get(job.stored[expert.id].digest)
    file = FeatureFile.from_bytes(data, f"features of {expert.id}")
    _require_spec(workspace, expert, file.feature_spec_digest)
    return file


def _moments(workspace: Workspace, job: _Job, expert: ExpertRecord) -> MomentsFile:
    from expertbank.routing.moments_file import MomentsFile

    data = workspace.store.get(job.stored[expert.id].digest)
    file = MomentsFile.from_bytes(data, f"moments of {expert.id}")
    _require_spec(workspace, expert, file.feature_spec_digest)
    return file


def _require_spec(workspace: Workspace, expert: ExpertRecord, digest: str) -> None:
    if digest != workspace.spec.digest:
        raise IntegrityError(f"features of {expert.id} follow another feature spec than the bank's")


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
    """Store the router and its choices, then register them.

    Raises:
        StaleError: an expert came or went meanwhile; nothing was registered.
    """
    registry, spec = workspace.registry, workspace.spec
    environment = {"packages": package_versions()}
    blobs = {name: choice.to_bytes() for name, choice in measured.choices.items()}
    digests = {name: sha256_bytes(blob) for name, blob in blobs.items()}
    data = router.to_bytes()
    digest = sha256_bytes(data)
    columns = tuple(tuple(member.task for member in column) for column in router.columns)
    with workspace.writing():
        for blob in (data, *blobs.values()):
            workspace.store.put(blob)
        return registry.commit_router(
            RouterRecord(
                0,
                router.kind,
                digest,
                router.parameter_count,
                tuple(member.id for member in router.members),
                spec.digest,
                measured.metrics,
            ),
            RunRecord(
                "retrain-router",
                config.to_dict(),
                config.seed,
                environment,
                {"features": {e.id: job.stored[e.id].digest for e in job.experts}},
                spec.backbone_digest,
                seconds,
            ),
            [
                ArtifactRecord(digest, "router", len(data)),
                *(
                    ArtifactRecord(digests[name], "routed", len(blob))
                    for name, blob in blobs.items()
                ),
            ],
            [
                _evaluation(workspace, e, columns, measured.choices[e.id], digests[e.id])
                for e in job.experts
                if e.id in digests
            ],
            expected_generation=job.generation,
            activate=activate,
            members={expert.id: expert.digest for expert in job.experts},
            reason=f"retrain-router over {len(job.experts)} tasks",
        )


def _evaluation(
    workspace: Workspace,
    expert: ExpertRecord,
    columns: tuple[tuple[str, ...], ...],
    choice: RoutedEvidence,
    digest: str,
) -> EvaluationRecord:
    from expertbank.evaluation.history import RouterView
    from expertbank.evaluation.predictions import Predictions
    from expertbank.kinds import KINDS

    (stored,) = workspace.registry.evaluations(expert.id, router_version="oracle")
    predictions = Predictions.from_bytes(
        workspace.store.get(stored.artifact_digest), f"answers of {expert.id}"
    )
    outcome = KINDS.get(expert.kind).outcome(predictions)
    chosen = RouterView(0, columns, choice).chose(expert.task)
    return EvaluationRecord(
        expert.id,
        stored.n,
        outcome.correct(chosen),
        digest,
        {
            "routing_accuracy": float(chosen.mean()),
            "quality": outcome.quality(chosen),
        },
        {"packages": package_versions()},
    )
