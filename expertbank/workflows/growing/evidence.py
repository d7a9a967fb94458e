"""What a new router chose, as it is registered: stored where it is not what was stored last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from expertbank.artifacts.store import ArtifactStore, sha256_bytes
from expertbank.evaluation.evidence import RoutedEvidence, column_name
from expertbank.evaluation.history import RouterView
from expertbank.records import EvaluationRecord, ExpertRecord
from expertbank.registry.registry import Registry
from expertbank.workflows.environment import package_versions

if TYPE_CHECKING:
    from expertbank.evaluation.routing import Routed
    from expertbank.routing.router import Router


def evidence_of(
    router: Router, groups: Mapping[str, str | None], choices: Mapping[str, Routed]
) -> dict[str, bytes]:
    """By expert what was chosen for its rows, as a file.

    Args:
        router: what chose.
        groups: by task its group.
        choices: by expert the choices.
    """
    firsts = [column[0].task for column in router.columns]
    names = [column_name(task, groups[task]) for task in firsts]
    return {
        expert: RoutedEvidence.of(names, routed.choice, _home(expert, groups)).to_bytes()
        for expert, routed in choices.items()
    }


def _home(expert: str, groups: Mapping[str, str | None]) -> str | None:
    """The column of the expert's task, where that is a group."""
    task = expert.partition("@")[0]
    return column_name(task, groups[task]) if groups[task] else None


def evaluations_of(
    registry: Registry,
    store: ArtifactStore,
    experts: Sequence[ExpertRecord],
    router: Router,
    choices: Mapping[str, Routed],
    evidence: Mapping[str, bytes],
) -> tuple[list[EvaluationRecord], list[str]]:
    """Every expert's measurement, and the experts whose file is not the one stored last.

    Equal choices are right as often: only where they changed the answers are read and counted.

    Raises:
        IntegrityError: stored answers are damaged.
    """
    last = {one.expert_id: one for one in registry.evaluations(router_version="last")}
    columns = tuple(tuple(member.task for member in column) for column in router.columns)
    found, new = [], []
    for expert in experts:
        digest, before = sha256_bytes(evidence[expert.id]), last.get(expert.id)
        if before is not None and before.artifact_digest == digest:
            found.append(replace(before, created_at=""))
            continue
        view = RouterView(0, columns, choices[expert.id].choice)
        found.append(_evaluation(registry, store, expert, view, digest))
        new.append(expert.id)
    return found, new


def _evaluation(
    registry: Registry, store: ArtifactStore, expert: ExpertRecord, view: RouterView, digest: str
) -> EvaluationRecord:
    from expertbank.evaluation.predictions import Predictions
    from expertbank.kinds import KINDS

    (stored,) = registry.evaluations(expert.id, router_version="oracle")
    answers = Predictions.from_bytes(store.get(stored.artifact_digest), f"answers of {expert.id}")
    outcome = KINDS.get(expert.kind).outcome(answers)
    chosen = view.chose(expert.task)
    return EvaluationRecord(
        expert.id,
        stored.n,
        outcome.correct(chosen),
        digest,
        {"routing_accuracy": float(chosen.mean()), "quality": outcome.quality(chosen)},
        {"packages": package_versions()},
    )
