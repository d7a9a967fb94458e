"""Records of a small bank, to fill a registry under test with."""

from __future__ import annotations

import hashlib
from typing import Any

from expertbank.config import FeatureSpec
from expertbank.records import (
    ArtifactRecord,
    BackboneRecord,
    EvaluationRecord,
    ExpertRecord,
    ExportRecord,
    FeatureSetRecord,
    RouterRecord,
    RunRecord,
    StatisticsRecord,
    TaskRecord,
)
from expertbank.registry.registry import Registry


def sha(text: str) -> str:
    """A digest, of a file that is not there."""
    return hashlib.sha256(text.encode()).hexdigest()


SPEC = FeatureSpec(sha("backbone"), 2, (0, 1, 2), ("mean", "first"))
BACKBONE = BackboneRecord(sha("backbone"), "tiny", {"layers": 6}, SPEC, "2026-01-01T00:00:00+00:00")


def artifact(text: str, kind: str = "expert") -> ArtifactRecord:
    """A file with digest ``sha(text)``."""
    return ArtifactRecord(sha(text), kind, 100)


def run(kind: str = "add", **config: Any) -> RunRecord:
    """What made something: trained by ``config``, where it is given."""
    config = config or {"epochs": 3}
    return RunRecord(kind, config, 0, {"torch": "2"}, {"rows": 8}, SPEC.backbone_digest, 1.5)


def expert_parts(
    task: str, version: int = 1, *, group: str | None = None, **changes: Any
) -> dict[str, Any]:
    """Arguments of ``commit_expert``; ``changes`` are fields of the expert."""
    name = f"{task}@{version}"
    fields = {
        "digest": sha(name),
        "adapter_params": 10,
        "head_params": 4,
        "bytes": 100,
        "labels": ("no", "yes"),
        "kind": "classification",
    }
    expert = ExpertRecord(task, version, **{**fields, **changes})
    return {
        "task": TaskRecord(
            task,
            expert.kind,
            expert.labels,
            {"a": 1},
            "2026-01-02T00:00:00+00:00",
            group=group,
        ),
        "run": run(),
        "expert": expert,
        "artifacts": [
            ArtifactRecord(expert.digest, "expert", 100),
            artifact(f"features {name}", "features"),
            artifact(f"statistics {name}", "statistics"),
            artifact(f"oracle {name}", "evaluation"),
        ],
        "features": FeatureSetRecord(name, sha(f"features {name}"), SPEC.digest, 12, 20, 10, 500),
        "evaluations": [EvaluationRecord(name, 10, 9, sha(f"oracle {name}"), {"x": 1}, {})],
        "statistics": StatisticsRecord(
            name, sha(f"statistics {name}"), SPEC.digest, 12, 12, None, 18, 400
        ),
    }


def router_parts(registry: Registry, text: str | None = None, **changes: Any) -> dict[str, Any]:
    """Arguments of ``commit_router`` over the members and groups of now."""
    members = tuple(expert.id for expert in registry.members())
    groups: dict[str, tuple[str, ...]] = {}
    for task in registry.tasks():
        if task.group is not None:
            groups[task.group] = (*groups.get(task.group, ()), task.name)
    text = text or f"router over {members}{groups or ''}"
    fields = {
        "kind": "ridge",
        "digest": sha(text),
        "params": 24,
        "members": members,
        "feature_spec_digest": SPEC.digest,
        "metrics": {"accuracy": 0.9},
        "groups": groups,
    }
    router = RouterRecord(0, **{**fields, **changes})
    return {
        "router": router,
        "run": run("retrain-router"),
        "artifacts": [
            ArtifactRecord(router.digest, "router", 100),
            *(artifact(f"{text} {name}", "evaluation") for name in members),
        ],
        "evaluations": [
            EvaluationRecord(name, 10, 8, sha(f"{text} {name}"), {}, {}) for name in members
        ],
        "expected_generation": registry.generation(),
        "activate": True,
        "reason": "test",
    }


def fill(registry: Registry, *, group: str | None = None) -> None:
    """Two tasks, three experts, two routers, two aliases, one export: rows in every table."""
    registry.set_backbone(BACKBONE)
    registry.commit_expert(**expert_parts("boolq", group=group))
    registry.commit_expert(**expert_parts("sst2"))
    registry.commit_router(**router_parts(registry))
    registry.commit_expert(**expert_parts("boolq", 2, labels=("false", "true", "unsure")))
    registry.commit_router(**router_parts(registry))
    registry.set_alias("stable", 1, "known good")
    registry.commit_export(ExportRecord(sha("bundle"), "bundle", "out", 2, ("boolq@2", "sst2@1")))


def known(registry: Registry) -> tuple[object, ...]:
    """Everything a registry can be asked for, to compare before and after."""
    return (
        registry.backbone(),
        registry.tasks(include_removed=True),
        registry.experts(),
        registry.feature_sets(),
        registry.statistics(),
        registry.evaluations(),
        registry.routers(),
        registry.aliases(),
        registry.alias_events(),
        registry.artifacts(),
        registry.history(),
        registry.generation(),
        registry.purgeable(),
        registry.forgettable(1),
    )
