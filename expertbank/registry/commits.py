"""Writing: each function is one promise, kept inside a write transaction the caller holds.

Files come first: an artifact's bytes are durable in the store before its row is written
here, so no committed row ever points at nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError as ConstraintError
from sqlalchemy.orm import Session

from expertbank.config import FeatureSpec
from expertbank.errors import (
    ExistsError,
    ExpertBankError,
    FeatureSpecError,
    InputError,
    IntegrityError,
    NotFoundError,
    StaleError,
)
from expertbank.records import (
    ArtifactRecord,
    BackboneRecord,
    EvaluationRecord,
    ExpertRecord,
    ExportRecord,
    FeatureSetRecord,
    RouterRecord,
    RunRecord,
    TaskRecord,
)
from expertbank.registry import names, purging, queries, rows
from expertbank.registry.purging import Purge
from expertbank.registry.session import insert_missing, is_unique_violation
from expertbank.registry.tables import (
    AliasEventRow,
    AliasRow,
    ArtifactRow,
    ExpertRow,
    RouterMemberRow,
    RouterRow,
    TaskRow,
)


def set_backbone(session: Session, record: BackboneRecord) -> BackboneRecord:
    """Fix the bank's backbone, or confirm that it is the one already fixed."""
    row = queries.backbone_row(session)
    if row is None:
        row = rows.backbone_row(record)
        session.add(row)
        session.flush()
        return rows.backbone_record(row)
    if row.digest != record.digest:
        raise IntegrityError(
            f"the bank was made with backbone {row.reference} (digest {row.digest}), but "
            f"{record.reference} has digest {record.digest}; name the first one, or make "
            "another bank with --home"
        )
    if row.feature_spec_digest != record.feature_spec.digest:
        differing = _differing(FeatureSpec.from_dict(row.feature_spec), record.feature_spec)
        raise FeatureSpecError(
            f"the bank fixed its feature spec at init and it cannot change: {differing}; leave "
            "these options out, or make another bank with --home"
        )
    return rows.backbone_record(row)


def complete_backbone(session: Session, revision: str | None, identity: str | None) -> None:
    """Record what of the backbone was not known before; what is recorded stays."""
    row = queries.backbone_row(session)
    if row is not None:
        row.revision = row.revision or revision
        row.identity = row.identity or identity


def commit_expert(
    session: Session,
    task: TaskRecord,
    run: RunRecord,
    expert: ExpertRecord,
    artifacts: Sequence[ArtifactRecord],
    features: FeatureSetRecord,
    evaluations: Sequence[EvaluationRecord],
) -> ExpertRecord:
    """Register an expert with everything that belongs to it."""
    _check_own(expert, task, features, evaluations)
    _check_backbone(session, run.backbone_digest, features.feature_spec_digest)
    task_id = _task_id(session, task, expert)
    insert_missing(session, ArtifactRow, _values(artifacts), revive="purged_at")
    run_id = _add_run(session, run)
    row = _insert_expert(session, rows.expert_row(expert, task_id, run_id), expert)
    session.add(rows.feature_set_row(features, row.id))
    session.add_all(rows.evaluation_row(record, row.id, None) for record in evaluations)
    session.flush()
    return rows.expert_record(row, task.name)


def commit_router(
    session: Session,
    router: RouterRecord,
    run: RunRecord,
    artifacts: Sequence[ArtifactRecord],
    evaluations: Sequence[EvaluationRecord],
    *,
    expected_generation: int,
    members: Mapping[str, str] | None = None,
) -> RouterRecord:
    """Register a router, or find the equal one that is there.

    ``members`` are the digests of the experts it was trained on, by id. The generation alone
    cannot tell a restored database, in which the same number of other experts came in.
    """
    generation = queries.generation(session)
    if generation != expected_generation:
        raise StaleError(
            f"the bank changed while the router was trained (generation {expected_generation}, "
            f"now {generation}); run: expertbank retrain-router"
        )
    _check_backbone(session, run.backbone_digest, router.feature_spec_digest)
    _check_members(session, router.members, members)
    existing = session.scalar(select(RouterRow).where(RouterRow.digest == router.digest))
    if existing is not None:
        return _same_router(queries.router(session, existing.version), router)
    insert_missing(session, ArtifactRow, _values(artifacts), revive="purged_at")
    version = (session.scalar(select(func.max(RouterRow.version))) or 0) + 1
    row = rows.router_row(router, version, _add_run(session, run))
    session.add(row)
    session.flush()
    experts = {f"{task}@{e.version}": e for e, task in queries.expert_rows(session)}
    session.add_all(
        RouterMemberRow(
            router_id=row.id, position=position, expert_id=expert.id, expert_digest=expert.digest
        )
        for position, expert in enumerate(_named(experts, router.members))
    )
    evaluated = _named(experts, [record.expert_id for record in evaluations])
    session.add_all(
        rows.evaluation_row(record, expert.id, version)
        for record, expert in zip(evaluations, evaluated, strict=True)
    )
    session.flush()
    return queries.router(session, version)


def move_alias(session: Session, name: str, version: int, reason: str) -> None:
    """Point ``name`` at a router and append the event; nothing happens if it already does."""
    names.check_alias(name)
    row = session.get(AliasRow, name)
    previous = None if row is None else row.router_version
    if previous == version:
        return
    require_servable(session, version)
    if row is None:
        session.add(AliasRow(name=name, router_version=version))
    else:
        row.router_version = version
    session.add(
        AliasEventRow(
            name=name,
            router_version=version,
            previous_version=previous,
            reason=reason,
            created_at=rows.now(),
        )
    )
    session.flush()


def require_servable(session: Session, version: int) -> None:
    """Refuse a router that needs files which were deleted on purpose.

    Raises:
        NotFoundError: experts of removed tasks are gone; they are named.
    """
    gone = purging.purged_members(session, version)
    if gone:
        raise NotFoundError(
            f"router@{version} cannot be used again: the files of {', '.join(gone)} were deleted "
            "after their task was removed; run: expertbank retrain-router"
        )


def remove_task(session: Session, name: str, run: RunRecord) -> TaskRow:
    """Set the task's tombstone and keep the removal itself as a run; once is enough."""
    row = queries.task_row(session, name)
    if row.removed_at is None:
        _add_run(session, run)
        row.removed_at = run.created_at or rows.now()
        row.removals += 1
        session.flush()
    return row


def commit_purge(session: Session, purge: Purge, run: RunRecord) -> None:
    """Let go of the files of removed tasks: after this the registry no longer counts on them."""
    if purge != purging.plan(session):
        raise StaleError("the bank changed while gc was at work; run: expertbank gc again")
    purging.carry_out(session, purge)
    _add_run(session, run)


def commit_export(session: Session, record: ExportRecord) -> ExportRecord:
    """Register a bundle that was written and verified."""
    queries.router(session, record.router_version)
    row = rows.export_row(record)
    session.add(row)
    session.flush()
    return rows.export_record(row)


def _check_own(
    expert: ExpertRecord,
    task: TaskRecord,
    features: FeatureSetRecord,
    evaluations: Sequence[EvaluationRecord],
) -> None:
    named = {features.expert_id, *(record.expert_id for record in evaluations)}
    if expert.task != task.name or named != {expert.id}:
        raise InputError(
            f"expert {expert.id} was committed with records of another: task {task.name}, "
            f"experts {', '.join(sorted(named))}"
        )
    if any(record.router_version is not None for record in evaluations):
        raise InputError(f"an evaluation committed with expert {expert.id} names a router")


def _check_backbone(session: Session, digest: str, spec_digest: str) -> None:
    row = queries.backbone_row(session)
    if row is None:
        raise ExpertBankError("the bank has no backbone yet; run: expertbank init")
    if row.digest != digest:
        raise IntegrityError(
            f"trained on backbone {digest}, but the bank's is {row.reference} ({row.digest}); "
            "train again with the bank's backbone"
        )
    if row.feature_spec_digest != spec_digest:
        raise FeatureSpecError(
            f"features follow spec {spec_digest}, but the bank's is {row.feature_spec_digest}; "
            "compute them again with the bank's feature spec"
        )


def _task_id(session: Session, task: TaskRecord, expert: ExpertRecord) -> int:
    row = session.scalar(select(TaskRow).where(TaskRow.name == task.name))
    if row is None:
        row = rows.task_row(task)
        session.add(row)
        session.flush()
        return row.id
    if row.kind != expert.kind:
        raise InputError(
            f"task {task.name} is registered as {row.kind}, a new version cannot be "
            f"{expert.kind}; use another task name"
        )
    if task.group is not None and row.group_name != task.group:
        stands = f"is in group {row.group_name}" if row.group_name else "stands alone"
        raise InputError(
            f"task {task.name} {stands}, a new version cannot put it into group {task.group}; "
            "use another task name"
        )
    # A removed task that gets a new expert is a member again; ``removals`` keeps the count.
    row.removed_at = None
    return row.id


def _insert_expert(session: Session, row: ExpertRow, expert: ExpertRecord) -> ExpertRow:
    exists = ExistsError(
        f"expert {expert.id} is already registered and experts never change; use --new-version "
        "to add another version of the task"
    )
    same = select(ExpertRow.id).where(
        ExpertRow.task_id == row.task_id, ExpertRow.version == row.version
    )
    if session.scalar(same) is not None:
        raise exists
    try:
        session.add(row)
        session.flush()
    except ConstraintError as error:
        if is_unique_violation(error):  # a database whose writers do not wait in one queue
            raise exists from error
        raise
    return row


def _check_members(
    session: Session, wanted: Sequence[str], digests: Mapping[str, str] | None
) -> None:
    if digests is None:
        return
    now = {f"{task}@{row.version}": row.digest for row, task in queries.expert_rows(session)}
    other = [name for name in wanted if now.get(name) != digests.get(name)]
    if other:
        raise StaleError(
            f"the bank holds other experts than the router was trained on ({', '.join(other)}): "
            "its database was restored or replaced meanwhile; run: expertbank retrain-router"
        )


def _add_run(session: Session, run: RunRecord) -> int:
    row = rows.run_row(run)
    session.add(row)
    session.flush()
    return row.id


def _same_router(existing: RouterRecord, router: RouterRecord) -> RouterRecord:
    if existing.members != router.members:
        raise IntegrityError(
            f"router@{existing.version} has digest {existing.digest} too, but other members: "
            f"{', '.join(existing.members)} against {', '.join(router.members)}; a router's "
            "digest must cover its members"
        )
    return existing


def _named(experts: dict[str, ExpertRow], wanted: Sequence[str]) -> list[ExpertRow]:
    missing = [name for name in wanted if name not in experts]
    if missing:
        raise NotFoundError.of("expert", missing[0], list(experts))
    return [experts[name] for name in wanted]


def _values(artifacts: Sequence[ArtifactRecord]) -> list[dict[str, object]]:
    return [rows.artifact_values(record) for record in artifacts]


def _differing(stored: FeatureSpec, asked: FeatureSpec) -> str:
    ours, theirs = asdict(stored), asdict(asked)
    return ", ".join(
        f"{name} is {ours[name]}, asked for {theirs[name]}"
        for name in ours
        if ours[name] != theirs[name]
    )
