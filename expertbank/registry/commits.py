"""Writing: each function keeps one promise inside a write transaction that the caller holds.

What each one promises is said by ``Registry``, its namesake there. Files come first: an
artifact's bytes are durable in the store before its row is written here, so no committed row
ever points at nothing. Writers wait for each other: what is read here stays true until the
transaction ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from sqlalchemy import bindparam, exists, func, insert, inspect, select, update
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
    StatisticsRecord,
    TaskRecord,
)
from expertbank.registry import forgetting, names, purging, queries, rows
from expertbank.registry.queries import EXPERT_ID, OF_TASK
from expertbank.registry.registry import Fits
from expertbank.registry.tables import (
    AliasEventRow,
    AliasRow,
    ArtifactRow,
    BackboneRow,
    EvaluationRow,
    ExpertRow,
    ExportRow,
    FeatureSetRow,
    RouterMemberRow,
    RouterRow,
    RunRow,
    StatisticsRow,
    TaskRow,
)

_REVIVE = (
    update(ArtifactRow)
    .where(ArtifactRow.digest == bindparam("each"), ArtifactRow.purged_at.is_not(None))
    .values(purged_at=None)
)
_ARTIFACT = inspect(ArtifactRow).columns
_INSERT_MISSING = insert(ArtifactRow).from_select(
    list(_ARTIFACT.keys()),
    select(*(bindparam(name, type_=column.type) for name, column in _ARTIFACT.items())).where(
        ~exists().where(ArtifactRow.digest == bindparam("digest"))
    ),
)


def set_backbone(session: Session, record: BackboneRecord) -> BackboneRecord:
    fixed = queries.backbone(session)
    if fixed is None:
        spec = record.feature_spec.digest
        row = rows.add(session, record, BackboneRow, feature_spec_digest=spec)
        return replace(record, created_at=row.created_at)
    if fixed.digest != record.digest:
        raise IntegrityError(
            f"the bank was made with backbone {fixed.reference} (digest {fixed.digest}), but "
            f"{record.reference} has digest {record.digest}; name the first one, or make "
            "another bank with --home"
        )
    if fixed.feature_spec.digest != record.feature_spec.digest:
        differing = _differing(fixed.feature_spec, record.feature_spec)
        raise FeatureSpecError(
            f"the bank fixed its feature spec at init and it cannot change: {differing}; leave "
            "these options out, or make another bank with --home"
        )
    if record.store not in {None, fixed.store}:
        raise InputError(
            f"the bank keeps its files at {fixed.store or 'objects/ in its own folder'}, not at "
            f"{record.store}, and that cannot change; leave the store out, or make another bank "
            "with --home"
        )
    return fixed


def complete_backbone(session: Session, *, revision: str | None, identity: str | None) -> None:
    row = session.scalar(select(BackboneRow))
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
    statistics: StatisticsRecord | None = None,
    fits: Fits | None = None,
) -> ExpertRecord:
    beside: list[FeatureSetRecord | StatisticsRecord] = [features]
    if statistics is not None:
        beside.append(statistics)
    _check_own(expert, task, beside, evaluations)
    for one in beside:
        _check_backbone(session, run.backbone_digest, one.feature_spec_digest)
    task_id = _task_id(session, task, expert, fits)
    same = exists().where(ExpertRow.task_id == task_id, ExpertRow.version == expert.version)
    if session.scalar(select(same)):
        raise ExistsError(
            f"expert {expert.id} is already registered and experts never change; use "
            "--new-version to add another version of the task"
        )
    _add_artifacts(session, artifacts)
    run_id = rows.add(session, run, RunRow).id
    row = rows.add(session, expert, ExpertRow, task_id=task_id, run_id=run_id)
    rows.add(session, features, FeatureSetRow, expert_id=row.id)
    if statistics is not None:
        rows.add(session, statistics, StatisticsRow, expert_id=row.id)
    _add_evaluations(session, evaluations, None, {expert.id: row.id})
    return replace(expert, run_id=run_id, created_at=row.created_at)


def add_statistics(
    session: Session, records: Sequence[StatisticsRecord], artifacts: Sequence[ArtifactRecord]
) -> None:
    numbers = queries.expert_numbers(session)
    cached = set(session.scalars(select(FeatureSetRow.expert_id)))
    missing = cached - set(session.scalars(select(StatisticsRow.expert_id)))
    fixed = queries.backbone(session)
    for record in records:
        if record.expert_id not in numbers:
            raise NotFoundError.of("expert", record.expert_id, list(numbers))
        _check_backbone(session, fixed.digest if fixed else "", record.feature_spec_digest)
    new = [record for record in records if numbers[record.expert_id] in missing]
    digests = {record.digest for record in new}
    _add_artifacts(session, [file for file in artifacts if file.digest in digests])
    rows.add_all(
        session,
        StatisticsRow,
        (rows.values(record, StatisticsRow, expert_id=numbers[record.expert_id]) for record in new),
    )


def commit_router(
    session: Session,
    router: RouterRecord,
    run: RunRecord,
    artifacts: Sequence[ArtifactRecord],
    evaluations: Sequence[EvaluationRecord],
    *,
    expected_generation: int,
    activate: bool,
    reason: str,
    members: Mapping[str, str] | None = None,
) -> RouterRecord:
    generation = queries.generation(session)
    if generation != expected_generation:
        raise StaleError(
            f"the bank changed while the router was trained (generation {expected_generation}, "
            f"now {generation}); run: expertbank retrain-router"
        )
    _check_backbone(session, run.backbone_digest, router.feature_spec_digest)
    query = select(EXPERT_ID, ExpertRow.id, ExpertRow.digest).join(TaskRow, OF_TASK)
    experts = {name: (number, digest) for name, number, digest in session.execute(query)}
    # The generation alone cannot tell a restored database, in which the same number of other
    # experts came in.
    if members is not None:
        _check_members(router.members, members, experts)
    version = session.scalar(select(RouterRow.version).where(RouterRow.digest == router.digest))
    if version is None:
        _add_artifacts(session, artifacts)
        version = (session.scalar(select(func.max(RouterRow.version))) or 0) + 1
        _add_router(session, router, run, evaluations, version, experts)
    elif forgetting.is_forgotten(session, version):
        _add_artifacts(session, artifacts)
        _add_routed(session, evaluations, version, experts)
    committed = queries.router(session, version)
    if committed.members != router.members:
        raise IntegrityError(
            f"router@{version} has digest {committed.digest} too, but other members: "
            f"{', '.join(committed.members)} against {', '.join(router.members)}; a router's "
            "digest must cover its members"
        )
    if committed.groups != queries.in_order(router.groups):
        raise IntegrityError(
            f"router@{version} has digest {committed.digest} too, but other groups; a router's "
            "digest must cover its groups"
        )
    if activate:
        _move_alias(session, names.ACTIVE, version, reason)
    return committed


def _add_router(
    session: Session,
    router: RouterRecord,
    run: RunRecord,
    evaluations: Sequence[EvaluationRecord],
    version: int,
    experts: Mapping[str, tuple[int, str]],
) -> None:
    unknown = {*router.members, *(record.expert_id for record in evaluations)} - experts.keys()
    if unknown:
        raise NotFoundError.of("expert", min(unknown), list(experts))
    run_id = rows.add(session, run, RunRow).id
    row = rows.add(session, router, RouterRow, version=version, run_id=run_id)
    group_of = router.group_of
    rows.add_all(
        session,
        RouterMemberRow,
        (
            {
                "router_id": row.id,
                "position": position,
                "expert_id": experts[name][0],
                "expert_digest": experts[name][1],
                "group": group_of.get(name.partition("@")[0]),
            }
            for position, name in enumerate(router.members)
        ),
    )
    _add_routed(session, evaluations, version, experts)


def _add_routed(
    session: Session,
    evaluations: Sequence[EvaluationRecord],
    version: int,
    experts: Mapping[str, tuple[int, str]],
) -> None:
    """Add the measurements that differ from what held before."""
    if not evaluations:
        return
    held = queries.measured(session, version)
    changed = [one for one in evaluations if held.get(one.expert_id) != one.artifact_digest]
    _add_evaluations(session, changed, version, {name: n for name, (n, _) in experts.items()})


def _add_evaluations(
    session: Session,
    evaluations: Sequence[EvaluationRecord],
    version: int | None,
    numbers: Mapping[str, int],
) -> None:
    rows.add_all(
        session,
        EvaluationRow,
        (
            rows.values(
                one, EvaluationRow, expert_id=numbers[one.expert_id], router_version=version
            )
            for one in evaluations
        ),
    )


def set_alias(session: Session, name: str, router: str | int, reason: str) -> AliasRecord:
    version = queries.router(session, router).version
    _move_alias(session, name, version, reason)
    return AliasRecord(name, version)


def _move_alias(session: Session, name: str, version: int, reason: str) -> None:
    """Point ``name`` at a router and append the event; nothing happens if it already does."""
    names.check_alias(name)
    query = select(AliasRow.router_version).where(AliasRow.name == name)
    previous = session.scalar(query)
    if previous == version:
        return
    if forgetting.is_forgotten(session, version):
        raise names.forgotten(version)
    gone = purging.purged_members(session, version)
    if gone:
        raise names.purged(version, gone, alive=queries.has_members(session))
    if previous is None:
        rows.add(session, AliasRecord(name, version), AliasRow)
    else:
        move = update(AliasRow).where(AliasRow.name == name)
        session.execute(move.values(router_version=version))
    rows.add(session, AliasEvent(name, version, previous, reason, ""), AliasEventRow)


def remove_task(session: Session, name: str, run: RunRecord) -> TaskRecord:
    task = queries.task(session, name)
    if task.removed_at is not None:
        return task
    removed_at = rows.add(session, run, RunRow).created_at
    session.execute(
        update(TaskRow)
        .where(TaskRow.name == name)
        .values(removed_at=removed_at, removals=TaskRow.removals + 1)
    )
    return replace(task, removed_at=removed_at)


def set_group(
    session: Session,
    tasks: Sequence[str],
    group: str | None,
    run: RunRecord,
    fits: Fits | None = None,
) -> tuple[TaskRecord, ...]:
    known = tuple(queries.task(session, name) for name in dict.fromkeys(tasks))
    moved = {task.name: task.group for task in known if task.group != group}
    if moved and fits is not None:
        every = queries.tasks_as_read(session)
        fits([replace(one, group=group) for one in every if one.name in moved], every)
    if moved:
        rows.add(session, replace(run, config={"group": group, "tasks": moved}), RunRow)
    for name in moved:
        session.execute(update(TaskRow).where(TaskRow.name == name).values(group=group))
    return known


def commit_export(session: Session, record: ExportRecord) -> ExportRecord:
    queries.router(session, record.router_version)
    row = rows.add(session, record, ExportRow)
    return replace(record, id=row.id, created_at=row.created_at)


def _check_own(
    expert: ExpertRecord,
    task: TaskRecord,
    kept: Sequence[FeatureSetRecord | StatisticsRecord],
    evaluations: Sequence[EvaluationRecord],
) -> None:
    named = {record.expert_id for record in (*kept, *evaluations)}
    if expert.task != task.name or named != {expert.id}:
        raise InputError(
            f"expert {expert.id} was committed with records of another: task {task.name}, "
            f"experts {', '.join(sorted(named))}"
        )
    if any(record.router_version is not None for record in evaluations):
        raise InputError(f"an evaluation committed with expert {expert.id} names a router")


def _check_backbone(session: Session, digest: str, spec_digest: str) -> None:
    fixed = queries.backbone(session)
    if fixed is None:
        raise ExpertBankError("the bank has no backbone yet; run: expertbank init")
    if fixed.digest != digest:
        raise IntegrityError(
            f"trained on backbone {digest}, but the bank's is {fixed.reference} ({fixed.digest}); "
            "train again with the bank's backbone"
        )
    if fixed.feature_spec.digest != spec_digest:
        raise FeatureSpecError(
            f"features follow spec {spec_digest}, but the bank's is {fixed.feature_spec.digest}; "
            "compute them again with the bank's feature spec"
        )


def _task_id(session: Session, task: TaskRecord, expert: ExpertRecord, fits: Fits | None) -> int:
    row = session.scalar(select(TaskRow).where(TaskRow.name == task.name))
    group = task.group if row is None else row.group
    if group is not None and fits is not None:
        mates = queries.tasks_as_read(session, TaskRow.group == group)
        fits([replace(task, group=group)], mates)
    if row is None:
        return rows.add(session, task, TaskRow, removed_at=None).id
    if row.kind != expert.kind:
        raise InputError(
            f"task {task.name} is registered as {row.kind}, a new version cannot be "
            f"{expert.kind}; use another task name"
        )
    if task.group is not None and row.group != task.group:
        raise InputError(names.other_group(task.name, row.group, task.group))
    # A removed task that gets a new expert is a member again; ``removals`` keeps the count.
    row.removed_at = None
    return row.id


def _add_artifacts(session: Session, artifacts: Sequence[ArtifactRecord]) -> None:
    """Insert those that are not there; a file whose bytes came back is no longer purged."""
    if not artifacts:
        return
    rows.for_each(session, _REVIVE, [record.digest for record in artifacts])
    found = [rows.values(record, ArtifactRow, purged_at=None) for record in artifacts]
    session.connection().execute(_INSERT_MISSING, found)


def _check_members(
    wanted: Sequence[str], digests: Mapping[str, str], experts: Mapping[str, tuple[int, str]]
) -> None:
    now = {name: digest for name, (_, digest) in experts.items()}
    other = [name for name in wanted if now.get(name) != digests.get(name)]
    if other:
        raise StaleError(
            f"the bank holds other experts than the router was trained on ({', '.join(other)}): "
            "its database was restored or replaced meanwhile; run: expertbank retrain-router"
        )


def _differing(stored: FeatureSpec, asked: FeatureSpec) -> str:
    ours, theirs = asdict(stored), asdict(asked)
    return ", ".join(
        f"{name} is {ours[name]}, asked for {theirs[name]}"
        for name in ours
        if ours[name] != theirs[name]
    )
