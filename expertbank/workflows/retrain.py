"""``retrain-router``: fit the gate on cached features of all tasks.

No old text is read, no backbone is loaded, no expert weight is touched.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from expertbank.artifacts.store import sha256_bytes
from expertbank.config import RouterConfig
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
from expertbank.workflows.workspace import Workspace, package_versions

if TYPE_CHECKING:
    from expertbank.evaluation.evidence import RoutedEvidence
    from expertbank.models.feature_file import FeatureFile
    from expertbank.models.gates import Router

CONFUSION_WARNING = 0.10
"""Mutual confusion of two tasks from which on the user is told."""
UNMEASURED: dict[str, Any] = {
    "accuracy": None,
    "accuracy_unmasked": None,
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
            ``accuracy_unmasked`` (the same of a gate of the same kind, fitted with every expert a
            candidate for every row and then dropped), ``per_task``, ``confusions`` (pairs above
            10%), ``calibration_error`` (expected, of the confidences) and ``unknown`` (share of
            known rows taken for unknown; ``None`` where it is not judged); every task weighs the
            same. Where the bank keeps no evaluation features all of it is ``None`` or empty.
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
    """
    started = time.monotonic()
    registry = workspace.registry
    registry.probe_writable()
    generation, experts = registry.generation(), registry.members()
    if not experts:
        raise NotFoundError("no expert to route to yet; first run: expertbank add --task T")
    stored = _feature_sets(workspace, experts)
    spec = workspace.spec
    if spec.keep == "stats":
        router = _from_stats(workspace, experts, stored, config, progress)
        choices: dict[str, RoutedEvidence] = {}
        metrics = dict(UNMEASURED)
    else:
        router, choices, metrics = _from_features(workspace, experts, stored, config, progress)
    data = router.to_bytes()
    digest = sha256_bytes(data)
    evidence = {name: choice.to_bytes() for name, choice in choices.items()}
    evidence_digests = {name: sha256_bytes(blob) for name, blob in evidence.items()}
    seconds = time.monotonic() - started
    environment = {"packages": package_versions()}
    with workspace.writing():
        for blob in (data, *evidence.values()):
            workspace.store.put(blob)
        record = registry.commit_router(
            RouterRecord(
                0,
                router.kind,
                digest,
                router.parameter_count,
                tuple(member.id for member in router.members),
                spec.digest,
                metrics,
            ),
            RunRecord(
                "retrain-router",
                asdict(config),
                config.seed,
                environment,
                {"features": {e.id: stored[e.id].digest for e in experts}},
                spec.backbone_digest,
                seconds,
            ),
            [
                ArtifactRecord(digest, "router", len(data)),
                *(
                    ArtifactRecord(evidence_digests[name], "routed", len(blob))
                    for name, blob in evidence.items()
                ),
            ],
            [
                _evaluation(workspace, router, expert, choices, evidence_digests, environment)
                for expert in experts
                if expert.id in choices
            ],
            expected_generation=generation,
            activate=activate,
            members={expert.id: expert.digest for expert in experts},
            reason=f"retrain-router over {len(experts)} tasks",
        )
    active = AliasRecord(ACTIVE, record.version) in registry.aliases()
    return RouterResult(
        record, tuple(e.task for e in experts), metrics, time.monotonic() - started, active
    )


def _from_features(
    workspace: Workspace,
    experts: Sequence[ExpertRecord],
    stored: Mapping[str, FeatureSetRecord],
    config: RouterConfig,
    progress: ProgressCallback,
) -> tuple[Router, dict[str, RoutedEvidence], dict[str, Any]]:
    """The router, what it chose for every evaluation row, and how well it did."""
    from expertbank.training.router import TaskFeatures, fit_with_and_without_mask
    from expertbank.workflows.choices import routed_evidence

    features = {}
    for number, expert in enumerate(experts):
        progress(ProgressEvent("reading cached features", number, len(experts), expert.id))
        features[expert.id] = _features(workspace, expert, stored)
    progress(ProgressEvent(f"fitting the {config.kind} gate", len(experts), len(experts)))
    groups = {task.name: task.group for task in workspace.registry.tasks()}
    tasks = [
        TaskFeatures(
            e.id,
            e.digest,
            e.task,
            e.kind,
            groups[e.task],
            features[e.id].train,
            features[e.id].train_shapes,
        )
        for e in experts
    ]
    router, unmasked = fit_with_and_without_mask(tasks, config, workspace.spec.digest)
    routed = {
        name: routed_evidence(router, unmasked, file.evaluation, file.evaluation_shapes)
        for name, file in features.items()
    }
    choices = {name: evidence for name, (evidence, _) in routed.items()}
    found = [share for _, share in routed.values() if share is not None]
    unknown = sum(found) / len(found) if found else None
    return router, choices, {**_metrics(router, experts, choices), "unknown": unknown}


def _from_stats(
    workspace: Workspace,
    experts: Sequence[ExpertRecord],
    stored: Mapping[str, FeatureSetRecord],
    config: RouterConfig,
    progress: ProgressCallback,
) -> Router:
    """The router from moments alone. No evaluation row is kept, so nothing is measured here."""
    from expertbank.models.moments_file import MomentsFile
    from expertbank.training.moments import Moments
    from expertbank.training.stats_router import TaskMoments, fit_stats_router

    groups = {task.name: task.group for task in workspace.registry.tasks()}
    tasks, dimension = [], 0
    for number, expert in enumerate(experts):
        progress(ProgressEvent("reading moments", number, len(experts), expert.id))
        data = workspace.store.get(stored[expert.id].digest)
        file = MomentsFile.from_bytes(data, f"moments of {expert.id}")
        _require_spec(workspace, expert, file.feature_spec_digest)
        moments = Moments(file.count, file.total, file.gram)
        group, dimension = groups[expert.task], file.dimension
        tasks.append(
            TaskMoments(
                expert.id, expert.digest, expert.task, expert.kind, group, moments, file.reads
            )
        )
    progress(ProgressEvent(f"fitting the {config.kind} gate", len(experts), len(experts)))
    return fit_stats_router(tasks, dimension, config, workspace.spec.digest)


def _require_spec(workspace: Workspace, expert: ExpertRecord, digest: str) -> None:
    if digest != workspace.spec.digest:
        raise IntegrityError(f"features of {expert.id} follow another feature spec than the bank's")


def _feature_sets(
    workspace: Workspace, experts: Sequence[ExpertRecord]
) -> dict[str, FeatureSetRecord]:
    """What is cached of every expert, asked for at once: a bank may hold thousands."""
    registry = workspace.registry
    stored = {record.expert_id: record for record in registry.feature_sets()}
    return {e.id: stored.get(e.id) or registry.feature_set(e.id) for e in experts}


def _features(
    workspace: Workspace, expert: ExpertRecord, stored: Mapping[str, FeatureSetRecord]
) -> FeatureFile:
    from expertbank.models.feature_file import FeatureFile

    data = workspace.store.get(stored[expert.id].digest)
    file = FeatureFile.from_bytes(data, f"features of {expert.id}")
    _require_spec(workspace, expert, file.feature_spec_digest)
    return file


def _metrics(
    router: Router, experts: Sequence[ExpertRecord], choices: dict[str, RoutedEvidence]
) -> dict[str, Any]:
    import numpy as np

    from expertbank.evaluation.calibration import expected_calibration_error

    columns = [router.column_of(expert.task) for expert in experts]
    # [experts, columns]: share of each expert's rows that went to each column
    shares = np.stack(
        [
            np.bincount(choices[expert.id].choice, minlength=len(router.columns))
            / len(choices[expert.id].choice)
            for expert in experts
        ]
    )
    mutual = shares[:, columns]  # [experts, experts]
    mutual = (mutual + mutual.T) / 2
    mutual[np.equal.outer(columns, columns)] = 0  # one group's tasks cannot be confused
    ordered = sorted(range(len(experts)), key=lambda place: experts[place].task)
    confusions = [
        {"tasks": [experts[one].task, experts[other].task], "rate": float(mutual[one, other])}
        for place, one in enumerate(ordered)
        for other in ordered[place + 1 :]
        if mutual[one, other] > CONFUSION_WARNING
    ]
    per_task = {
        expert.task: float(shares[place, columns[place]]) for place, expert in enumerate(experts)
    }
    sizes = [len(choices[expert.id].choice) for expert in experts]
    right = [choices[e.id].choice == column for e, column in zip(experts, columns, strict=True)]
    free = [
        float(np.mean(choices[e.id].free_choice == column))
        for e, column in zip(experts, columns, strict=True)
    ]
    return {
        "accuracy": sum(per_task.values()) / len(per_task),
        "accuracy_unmasked": sum(free) / len(free),
        "per_task": per_task,
        "confusions": confusions,
        "calibration_error": expected_calibration_error(
            np.concatenate([choices[expert.id].confidence for expert in experts]),
            np.concatenate(right),
            np.concatenate([np.full(size, 1 / size) for size in sizes]),
        ),
    }


def _evaluation(
    workspace: Workspace,
    router: Router,
    expert: ExpertRecord,
    choices: dict[str, RoutedEvidence],
    digests: dict[str, str],
    environment: dict[str, Any],
) -> EvaluationRecord:
    from expertbank.evaluation.evidence import OracleEvidence
    from expertbank.evaluation.history import RouterView

    (stored,) = workspace.registry.evaluations(expert.id, router_version="oracle")
    oracle = OracleEvidence.from_bytes(
        workspace.store.get(stored.artifact_digest), f"answers of {expert.id}"
    )
    columns = tuple(tuple(member.task for member in column) for column in router.columns)
    view = RouterView(0, columns, choices[expert.id])
    chosen = view.chose(expert.task)
    return EvaluationRecord(
        expert.id,
        stored.n,
        0 if oracle.is_value else int((chosen & oracle.right).sum()),
        digests[expert.id],
        {
            "routing_accuracy": float(chosen.mean()),
            "quality": view.quality(expert.task, oracle),
        },
        environment,
    )
