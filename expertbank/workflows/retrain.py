"""``retrain-router``: fit the gate on cached features of all tasks.

No old text is read, no backbone is loaded, no expert weight is touched.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True)
class RouterResult:
    """What was fitted.

    Attributes:
        router: the registered router.
        tasks: names of its members.
        metrics: ``accuracy`` (mean of per-task routing accuracies on evaluation rows),
            ``per_task`` and ``confusions`` (pairs above 10% with what to do).
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
    from expertbank.training.router import TaskFeatures, fit_router

    started = time.monotonic()
    registry = workspace.registry
    registry.probe_writable()
    generation, experts = registry.generation(), registry.members()
    if not experts:
        raise NotFoundError("no expert to route to yet; first run: expertbank add --task T")
    stored = {record.expert_id: record for record in registry.feature_sets()}
    features = {}
    for number, expert in enumerate(experts):
        progress(ProgressEvent("reading cached features", number, len(experts), expert.id))
        cached = stored.get(expert.id) or registry.feature_set(expert.id)
        features[expert.id] = _features(workspace, cached)
    progress(ProgressEvent(f"fitting the {config.kind} gate", len(experts), len(experts)))
    spec = workspace.spec
    groups = {task.name: task.group for task in registry.tasks()}
    router = fit_router(
        [
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
        ],
        config,
        spec.digest,
    )
    choices = {expert.id: _choices(router, features[expert.id]) for expert in experts}
    metrics = _metrics(router, experts, choices)
    data = router.to_bytes()
    digest = sha256_bytes(data)
    evidence = {expert.id: choices[expert.id].to_bytes() for expert in experts}
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
            ],
            expected_generation=generation,
            activate=activate,
            reason=f"retrain-router over {len(experts)} tasks",
        )
    active = AliasRecord(ACTIVE, record.version) in registry.aliases()
    return RouterResult(
        record, tuple(e.task for e in experts), metrics, time.monotonic() - started, active
    )


def _features(workspace: Workspace, stored: FeatureSetRecord) -> FeatureFile:
    from expertbank.models.feature_file import FeatureFile

    file = FeatureFile.from_bytes(
        workspace.store.get(stored.digest), f"features of {stored.expert_id}"
    )
    if file.feature_spec_digest != workspace.spec.digest:
        raise IntegrityError(
            f"features of {stored.expert_id} follow another feature spec than the bank's"
        )
    return file


def _choices(router: Router, features: FeatureFile) -> RoutedEvidence:
    from expertbank.evaluation.evidence import RoutedEvidence

    choice = router.route(features.evaluation, features.evaluation_shapes)
    return RoutedEvidence(
        choice.index.numpy().astype("int32"), choice.confidence.numpy().astype("float32")
    )


def _metrics(
    router: Router, experts: Sequence[ExpertRecord], choices: dict[str, RoutedEvidence]
) -> dict[str, Any]:
    shares: dict[str, dict[str, float]] = {
        expert.task: {
            other.task: float((choices[expert.id].choice == router.column_of(other.task)).mean())
            for other in experts
        }
        for expert in experts
    }
    per_task = {task: share[task] for task, share in shares.items()}
    confusions = []
    ordered = sorted(shares)
    for place, one in enumerate(ordered):
        for other in ordered[place + 1 :]:
            if router.column_of(one) == router.column_of(other):
                continue
            mutual = (shares[one][other] + shares[other][one]) / 2
            if mutual > CONFUSION_WARNING:
                confusions.append({"tasks": [one, other], "rate": mutual})
    return {
        "accuracy": sum(per_task.values()) / len(per_task),
        "per_task": per_task,
        "confusions": confusions,
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
    from expertbank.evaluation.forgetting import RouterView

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
