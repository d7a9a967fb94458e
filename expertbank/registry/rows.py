"""From table rows to the frozen records other rooms see, and back."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, cast

from expertbank.config import FeatureSpec
from expertbank.records import (
    AliasEvent,
    AliasRecord,
    ArtifactRecord,
    BackboneRecord,
    EvaluationRecord,
    ExpertRecord,
    ExportRecord,
    FeatureSetRecord,
    RouterRecord,
    RunRecord,
    TaskKind,
    TaskRecord,
)
from expertbank.registry.tables import (
    AliasEventRow,
    AliasRow,
    ArtifactRow,
    BackboneRow,
    EvaluationRow,
    ExpertRow,
    ExportRow,
    FeatureSetRow,
    RouterRow,
    RunRow,
    TaskRow,
)


def now() -> str:
    """The present moment: UTC, ISO-8601, microseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def backbone_record(row: BackboneRow) -> BackboneRecord:
    """Row to record."""
    return BackboneRecord(
        digest=row.digest,
        reference=row.reference,
        architecture=row.architecture,
        feature_spec=FeatureSpec.from_dict(row.feature_spec),
        created_at=row.created_at,
        revision=row.revision,
        identity=row.identity,
    )


def backbone_row(record: BackboneRecord) -> BackboneRow:
    """Record to row."""
    return BackboneRow(
        slot=1,
        digest=record.digest,
        reference=record.reference,
        architecture=record.architecture,
        feature_spec=record.feature_spec.to_dict(),
        feature_spec_digest=record.feature_spec.digest,
        created_at=record.created_at or now(),
        revision=record.revision,
        identity=record.identity,
    )


def task_record(row: TaskRow) -> TaskRecord:
    """Row to record."""
    return TaskRecord(
        name=row.name,
        kind=cast(TaskKind, row.kind),
        labels=tuple(row.labels),
        spec=row.spec,
        created_at=row.created_at,
        removed_at=row.removed_at,
        group=row.group_name,
    )


def task_row(record: TaskRecord) -> TaskRow:
    """Record to row, alive."""
    return TaskRow(
        name=record.name,
        kind=record.kind,
        labels=list(record.labels),
        spec=record.spec,
        created_at=record.created_at or now(),
        removed_at=None,
        removals=0,
        group_name=record.group,
    )


def artifact_record(row: ArtifactRow) -> ArtifactRecord:
    """Row to record."""
    return ArtifactRecord(row.digest, row.kind, row.bytes, row.created_at, row.purged_at)


def artifact_values(record: ArtifactRecord) -> dict[str, Any]:
    """Column values of a file whose bytes are in the store."""
    return {
        "digest": record.digest,
        "kind": record.kind,
        "bytes": record.bytes,
        "created_at": record.created_at or now(),
        "purged_at": None,
    }


def run_record(row: RunRow) -> RunRecord:
    """Row to record."""
    return RunRecord(
        kind=row.kind,
        config=row.config,
        seed=row.seed,
        environment=row.environment,
        data=row.data,
        backbone_digest=row.backbone_digest,
        seconds=row.seconds,
        id=row.id,
        created_at=row.created_at,
    )


def run_row(record: RunRecord) -> RunRow:
    """Record to row; the id is given by the database."""
    return RunRow(
        kind=record.kind,
        config=record.config,
        seed=record.seed,
        environment=record.environment,
        data=record.data,
        backbone_digest=record.backbone_digest,
        seconds=record.seconds,
        created_at=record.created_at or now(),
    )


def expert_record(row: ExpertRow, task: str) -> ExpertRecord:
    """Row to record."""
    return ExpertRecord(
        task=task,
        version=row.version,
        digest=row.digest,
        adapter_params=row.adapter_params,
        head_params=row.head_params,
        bytes=row.bytes,
        labels=tuple(row.labels),
        kind=cast(TaskKind, row.kind),
        run_id=row.run_id,
        created_at=row.created_at,
    )


def expert_row(record: ExpertRecord, task_id: int, run_id: int) -> ExpertRow:
    """Record to row."""
    return ExpertRow(
        task_id=task_id,
        version=record.version,
        digest=record.digest,
        adapter_params=record.adapter_params,
        head_params=record.head_params,
        bytes=record.bytes,
        labels=list(record.labels),
        kind=record.kind,
        run_id=run_id,
        created_at=record.created_at or now(),
    )


def feature_set_record(row: FeatureSetRow, expert: str) -> FeatureSetRecord:
    """Row to record."""
    return FeatureSetRecord(
        expert_id=expert,
        digest=row.digest,
        feature_spec_digest=row.feature_spec_digest,
        dimension=row.dimension,
        n_train=row.n_train,
        n_eval=row.n_eval,
        bytes=row.bytes,
    )


def feature_set_row(record: FeatureSetRecord, expert_id: int) -> FeatureSetRow:
    """Record to row."""
    return FeatureSetRow(
        expert_id=expert_id,
        digest=record.digest,
        feature_spec_digest=record.feature_spec_digest,
        dimension=record.dimension,
        n_train=record.n_train,
        n_eval=record.n_eval,
        bytes=record.bytes,
    )


def evaluation_record(row: EvaluationRow, expert: str) -> EvaluationRecord:
    """Row to record."""
    return EvaluationRecord(
        expert_id=expert,
        n=row.n,
        correct=row.correct,
        artifact_digest=row.artifact_digest,
        metrics=row.metrics,
        environment=row.environment,
        router_version=row.router_version,
        id=row.id,
        created_at=row.created_at,
    )


def evaluation_row(
    record: EvaluationRecord, expert_id: int, router_version: int | None
) -> EvaluationRow:
    """Record to row."""
    return EvaluationRow(
        expert_id=expert_id,
        router_version=router_version,
        n=record.n,
        correct=record.correct,
        artifact_digest=record.artifact_digest,
        metrics=record.metrics,
        environment=record.environment,
        created_at=record.created_at or now(),
    )


def router_record(row: RouterRow, members: tuple[str, ...]) -> RouterRecord:
    """Row and its members, in gate order, to record."""
    return RouterRecord(
        version=row.version,
        kind=row.kind,
        digest=row.digest,
        params=row.params,
        members=members,
        feature_spec_digest=row.feature_spec_digest,
        metrics=row.metrics,
        run_id=row.run_id,
        created_at=row.created_at,
    )


def router_row(record: RouterRecord, version: int, run_id: int) -> RouterRow:
    """Record to row, under the version that the registry gives it."""
    return RouterRow(
        version=version,
        kind=record.kind,
        digest=record.digest,
        params=record.params,
        feature_spec_digest=record.feature_spec_digest,
        metrics=record.metrics,
        run_id=run_id,
        created_at=record.created_at or now(),
    )


def alias_record(row: AliasRow) -> AliasRecord:
    """Row to record."""
    return AliasRecord(row.name, row.router_version)


def alias_event(row: AliasEventRow) -> AliasEvent:
    """Row to record."""
    return AliasEvent(
        row.name, row.router_version, row.previous_version, row.reason, row.created_at
    )


def export_record(row: ExportRow) -> ExportRecord:
    """Row to record."""
    return ExportRecord(
        digest=row.digest,
        format=row.format,
        path=row.path,
        router_version=row.router_version,
        experts=tuple(row.experts),
        id=row.id,
        created_at=row.created_at,
    )


def export_row(record: ExportRecord) -> ExportRow:
    """Record to row."""
    return ExportRow(
        digest=record.digest,
        format=record.format,
        path=record.path,
        router_version=record.router_version,
        experts=list(record.experts),
        created_at=record.created_at or now(),
    )
