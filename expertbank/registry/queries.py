"""Reading: each function answers one question inside a transaction that the caller holds.

What each one promises is said by ``Registry``, its namesake there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    Text,
    cast,
    exists,
    func,
    literal_column,
    select,
)
from sqlalchemy.orm import Session, aliased

from expertbank.errors import NotFoundError
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
from expertbank.registry import names
from expertbank.registry.registry import GROUP, EvaluationsOf
from expertbank.registry.rows import View, columns
from expertbank.registry.tables import (
    AliasEventRow,
    AliasRow,
    ArtifactRow,
    BackboneRow,
    BankRow,
    CanonicalJson,
    EvaluationRow,
    ExpertRow,
    ExportRow,
    FeatureSetRow,
    RouterMemberRow,
    RouterRow,
    RunRow,
    StatisticsRow,
    TaskRow,
    Texts,
)

EXPERT_ID = TaskRow.name.concat("@").concat(cast(ExpertRow.version, Text))
"""``task@version``, where experts and their tasks are joined."""
OF_TASK = TaskRow.id == ExpertRow.task_id
ALIVE = TaskRow.removed_at.is_(None)
_Other = aliased(ExpertRow)
NEWEST = ExpertRow.version == (
    select(func.max(_Other.version)).where(_Other.task_id == TaskRow.id).scalar_subquery()
)

BACKBONES = View(BackboneRecord, columns(BackboneRecord, BackboneRow))
TASKS = View(TaskRecord, columns(TaskRecord, TaskRow).order_by(TaskRow.name))
ARTIFACTS = View(ArtifactRecord, columns(ArtifactRecord, ArtifactRow).order_by(ArtifactRow.digest))
RUNS = View(RunRecord, columns(RunRecord, RunRow).order_by(RunRow.id))
EXPERTS = View(
    ExpertRecord,
    columns(ExpertRecord, ExpertRow, task=TaskRow.name)
    .join(TaskRow, OF_TASK)
    .order_by(TaskRow.name, ExpertRow.version),
)
FEATURE_SETS = View(
    FeatureSetRecord,
    columns(FeatureSetRecord, FeatureSetRow, expert_id=EXPERT_ID)
    .join(ExpertRow, ExpertRow.id == FeatureSetRow.expert_id)
    .join(TaskRow, OF_TASK)
    .order_by(TaskRow.name, ExpertRow.version),
)
STATISTICS = View(
    StatisticsRecord,
    columns(StatisticsRecord, StatisticsRow, expert_id=EXPERT_ID)
    .join(ExpertRow, ExpertRow.id == StatisticsRow.expert_id)
    .join(TaskRow, OF_TASK)
    .order_by(TaskRow.name, ExpertRow.version),
)
EVALUATIONS = View(
    EvaluationRecord,
    columns(EvaluationRecord, EvaluationRow, expert_id=EXPERT_ID)
    .join(ExpertRow, ExpertRow.id == EvaluationRow.expert_id)
    .join(TaskRow, OF_TASK)
    .order_by(EvaluationRow.id),
)
ROUTERS = View(  # without members and groups: ``_routers`` adds them, from rows of their own
    RouterRecord,
    columns(
        RouterRecord,
        RouterRow,
        members=literal_column("'[]'", Texts()),
        forgotten_at=ArtifactRow.purged_at,
        groups=literal_column("'{}'", CanonicalJson()),
    )
    .join(ArtifactRow, ArtifactRow.digest == RouterRow.digest)
    .order_by(RouterRow.version),
)
ALIASES = View(AliasRecord, columns(AliasRecord, AliasRow).order_by(AliasRow.name))
EXPORTS = View(ExportRecord, columns(ExportRecord, ExportRow).order_by(ExportRow.id))
EVENTS = View(AliasEvent, columns(AliasEvent, AliasEventRow).order_by(AliasEventRow.id))


def bank_id(session: Session) -> str:
    return str(session.scalar(select(BankRow.id)))


def backbone(session: Session) -> BackboneRecord | None:
    return BACKBONES.first(session)


def tasks(session: Session, include_removed: bool = False) -> tuple[TaskRecord, ...]:
    return TASKS.all(session) if include_removed else TASKS.all(session, ALIVE)


def task(session: Session, name: str) -> TaskRecord:
    found = TASKS.first(session, TaskRow.name == names.task_name(name))
    if found is None:
        raise _no_task(session, name)
    return found


def tasks_as_read(session: Session, *conditions: ColumnElement[bool]) -> tuple[TaskRecord, ...]:
    # A task's row has its first version's spec for good; those of later ones are in their runs.
    later = (
        select(TaskRow.name, RunRow.data)
        .join(ExpertRow, OF_TASK)
        .join(RunRow, RunRow.id == ExpertRow.run_id)
        .where(NEWEST, ExpertRow.version > 1, *conditions)
    )
    specs = {name: data.get("spec") for name, data in session.execute(later)}
    return tuple(
        replace(one, spec=specs.get(one.name) or one.spec)
        for one in TASKS.all(session, *conditions)
    )


def experts(session: Session, task: str | None = None) -> tuple[ExpertRecord, ...]:
    if task is None:
        return EXPERTS.all(session)
    found = EXPERTS.all(session, TaskRow.name == names.task_name(task))
    if not found:
        raise _no_task(session, task)
    return found


def expert(session: Session, reference: str) -> ExpertRecord:
    # Asked by key and not searched in all of them: a bank may hold thousands.
    found: tuple[ExpertRecord, ...] = ()
    named = names.split_version(reference)
    if named is not None and f"{named[0]}@{named[1]}" == reference:
        found = EXPERTS.all(session, TaskRow.name == named[0], ExpertRow.version == named[1])
    if not found:
        found = EXPERTS.all(session, TaskRow.name == reference)[-1:]
    if not found and names.is_digest_prefix(reference):
        found = EXPERTS.all(session, _begins(ExpertRow.digest, reference))
        names.only_one(reference, [one.id for one in found])
    if not found:
        every = select(TaskRow.name, EXPERT_ID).join(ExpertRow, OF_TASK)
        pairs = session.execute(every.order_by(TaskRow.name, ExpertRow.version)).all()
        known = [*dict.fromkeys(task for task, _ in pairs), *(name for _, name in pairs)]
        raise NotFoundError.of("expert", reference, known, "expertbank list shows all")
    return found[0]


def members(session: Session) -> tuple[ExpertRecord, ...]:
    return EXPERTS.all(session, ALIVE, NEWEST)


def member(session: Session, task: str) -> ExpertRecord:
    found = EXPERTS.first(session, TaskRow.name == task, ALIVE, NEWEST)
    if found is None:
        if session.scalar(select(TaskRow.id).where(TaskRow.name == task, ~ALIVE)) is not None:
            raise NotFoundError(
                f"task {task!r} was removed; expertbank add --task {task} --new-version makes it "
                "alive again"
            )
        raise NotFoundError.of("task", task, member_tasks(session))
    return found


def member_tasks(session: Session) -> tuple[str, ...]:
    query = select(TaskRow.name).where(ALIVE, exists().where(OF_TASK)).order_by(TaskRow.name)
    return tuple(session.scalars(query))


def has_members(session: Session) -> bool:
    query = select(ExpertRow.id).join(TaskRow, OF_TASK).where(ALIVE).limit(1)
    return session.scalar(query) is not None


def next_version(session: Session, task: str) -> int:
    query = select(func.max(ExpertRow.version)).join(TaskRow, OF_TASK)
    return (session.scalar(query.where(TaskRow.name == task)) or 0) + 1


def generation(session: Session) -> int:
    # Experts ever added, removals ever made and changes of groups. No number can shrink: experts
    # and runs are never deleted and ``tasks.removals`` outlives a task that comes back. So no code
    # path can forget to count.
    experts = session.scalar(select(func.count()).select_from(ExpertRow)) or 0
    moves = select(func.count()).select_from(RunRow).where(RunRow.kind == GROUP)
    removals = session.scalar(select(func.sum(TaskRow.removals))) or 0
    return experts + removals + (session.scalar(moves) or 0)


def feature_set(session: Session, expert_id: str) -> FeatureSetRecord:
    owner = expert(session, expert_id)
    found = FEATURE_SETS.first(session, *_of(owner))
    if found is None:
        raise NotFoundError(f"expert {owner.id} has no cached features (they were removed)")
    return found


def feature_sets(session: Session) -> tuple[FeatureSetRecord, ...]:
    return FEATURE_SETS.all(session)


def statistics(session: Session, expert_id: str | None = None) -> tuple[StatisticsRecord, ...]:
    conditions = [] if expert_id is None else _of(expert(session, expert_id))
    return STATISTICS.all(session, *conditions)


def evaluations(
    session: Session, expert_id: str | None = None, *, router_version: EvaluationsOf = "all"
) -> tuple[EvaluationRecord, ...]:
    conditions = [] if expert_id is None else _of(expert(session, expert_id))
    if router_version == "oracle":
        conditions.append(EvaluationRow.router_version.is_(None))
    elif router_version == "routed":
        conditions.append(EvaluationRow.router_version.is_not(None))
    elif router_version == "last":
        there = ArtifactRow.digest == EvaluationRow.artifact_digest
        conditions += [
            EvaluationRow.id.in_(_newest()),
            exists().where(there, ArtifactRow.purged_at.is_(None)),
        ]
    elif isinstance(router_version, int):
        conditions += [
            EvaluationRow.id.in_(_newest(router_version)),
            exists().where(
                RouterMemberRow.expert_id == EvaluationRow.expert_id,
                RouterMemberRow.router_id == RouterRow.id,
                RouterRow.version == router_version,
            ),
        ]
    return EVALUATIONS.all(session, *conditions)


def measured(session: Session, version: int) -> dict[str, str]:
    """By expert the file of what was newest under routers up to ``version``, there or not."""
    query = (
        select(EXPERT_ID, EvaluationRow.artifact_digest)
        .select_from(EvaluationRow)
        .join(ExpertRow, ExpertRow.id == EvaluationRow.expert_id)
        .join(TaskRow, OF_TASK)
        .where(EvaluationRow.id.in_(_newest(version)))
    )
    return {row[0]: row[1] for row in session.execute(query)}


def _newest(version: int | None = None) -> Select[tuple[int]]:
    """Numbers of every expert's newest routed measurement, or of its newest up to a router."""
    age = func.row_number().over(
        partition_by=EvaluationRow.expert_id,
        order_by=(EvaluationRow.router_version.desc(), EvaluationRow.id.desc()),
    )
    ranked = select(EvaluationRow.id, age.label("age")).where(
        EvaluationRow.router_version.is_not(None)
        if version is None
        else EvaluationRow.router_version <= version
    )
    found = ranked.subquery()
    return select(found.c.id).where(found.c.age == 1)


def routers(session: Session) -> tuple[RouterRecord, ...]:
    return _routers(session)


def router(session: Session, reference: str | int = names.ACTIVE) -> RouterRecord:
    wanted = str(reference)
    for condition in _router_named(wanted):
        found = _routers(session, condition)
        names.only_one(wanted, [f"router@{one.version}" for one in found])
        if found:
            return found[0]
    versions = session.scalars(select(RouterRow.version).order_by(RouterRow.version)).all()
    known = [*session.scalars(select(AliasRow.name)), *(f"router@{v}" for v in versions)]
    hint = "" if versions else "the bank has no router yet; run: expertbank retrain-router"
    raise NotFoundError.of("router", wanted, known, hint)


def _router_named(reference: str) -> Iterator[ColumnElement[bool]]:
    named = names.split_version(reference)
    if named is not None and named[0] == "router":
        yield RouterRow.version == named[1]
    elif reference.isdecimal() and len(reference) <= names.MAX_VERSION_DIGITS:
        yield RouterRow.version == int(reference)
    else:
        target = select(AliasRow.router_version).where(AliasRow.name == reference)
        yield RouterRow.version == target.scalar_subquery()
    if names.is_digest_prefix(reference):
        yield _begins(RouterRow.digest, reference)


def _routers(session: Session, *conditions: ColumnElement[bool]) -> tuple[RouterRecord, ...]:
    lists: dict[int, list[str]] = {}
    groups: dict[int, dict[str, list[str]]] = {}
    query = (
        select(RouterRow.version, EXPERT_ID, RouterMemberRow.group, TaskRow.name)
        .join(RouterMemberRow, RouterMemberRow.router_id == RouterRow.id)
        .join(ExpertRow, ExpertRow.id == RouterMemberRow.expert_id)
        .join(TaskRow, OF_TASK)
        .where(*conditions)
        .order_by(RouterMemberRow.router_id, RouterMemberRow.position)
    )
    for version, name, group, task in session.execute(query):
        lists.setdefault(version, []).append(name)
        if group is not None:
            groups.setdefault(version, {}).setdefault(group, []).append(task)
    return tuple(
        replace(
            record,
            members=tuple(lists.get(record.version, ())),
            groups=in_order(groups.get(record.version, {})),
        )
        for record in ROUTERS.all(session, *conditions)
    )


def in_order(groups: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Groups by name, each with its tasks by name."""
    return {group: tuple(sorted(groups[group])) for group in sorted(groups)}


def aliases(session: Session) -> tuple[AliasRecord, ...]:
    return ALIASES.all(session)


def alias_events(session: Session, name: str | None = None) -> tuple[AliasEvent, ...]:
    return EVENTS.all(session) if name is None else EVENTS.all(session, AliasEventRow.name == name)


def run(session: Session, run_id: int) -> RunRecord:
    found = RUNS.first(session, RunRow.id == run_id)
    if found is None:
        raise NotFoundError(f"no run with id {run_id}")
    return found


def artifacts(session: Session) -> tuple[ArtifactRecord, ...]:
    return ARTIFACTS.all(session)


def live_digests(session: Session) -> list[str]:
    """Digests of the files that must be in the store."""
    query = select(ArtifactRow.digest).where(ArtifactRow.purged_at.is_(None))
    return list(session.scalars(query.order_by(ArtifactRow.digest)))


def expert_numbers(session: Session) -> dict[str, int]:
    """The database's own number of every expert, by ``task@version``."""
    query = select(EXPERT_ID, ExpertRow.id).join(TaskRow, OF_TASK)
    return {row[0]: row[1] for row in session.execute(query)}


def _no_task(session: Session, name: str) -> NotFoundError:
    known = session.scalars(select(TaskRow.name)).all()
    return NotFoundError.of("task", name, known, "expertbank list shows all")


def _of(expert: ExpertRecord) -> list[ColumnElement[bool]]:
    return [TaskRow.name == expert.task, ExpertRow.version == expert.version]


def _begins(digest: SQLColumnExpression[str], prefix: str) -> ColumnElement[bool]:
    return digest.between(prefix, f"{prefix}g")  # after every hexadecimal digit; an index serves
