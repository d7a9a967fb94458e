"""The registry as other rooms use it: one method per question or promise.

Reads are one consistent view each; writes are one transaction each, so a process that dies
at any moment leaves the registry as it was before or after, never between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from sqlalchemy import Engine, select

from expertbank.errors import ExpertBankError, NotFoundError
from expertbank.records import (
    AliasEvent,
    AliasRecord,
    ArtifactRecord,
    BackboneRecord,
    EvaluationRecord,
    ExpertRecord,
    ExportRecord,
    FeatureSetRecord,
    HistoryEvent,
    Problem,
    RouterRecord,
    RunRecord,
    TaskRecord,
)
from expertbank.registry import commits, health, history, names, purging, queries, rows, schema
from expertbank.registry.purging import Purge
from expertbank.registry.queries import EvaluationsOf
from expertbank.registry.session import engine_at, probe, read, write
from expertbank.registry.tables import AliasEventRow, AliasRow, ArtifactRow, ExportRow, RunRow


class Registry:
    """An open registry; safe to share between threads, each call opens its own connection.

    Any method may raise ``LockedError`` (another process kept the file for 30 seconds) or
    ``IntegrityError`` (the file is damaged); their docstrings name what is special to them.
    Use ``create`` or ``open`` to make one.
    """

    def __init__(self, path: Path, engine: Engine, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self._engine = engine

    @classmethod
    def create(cls, path: Path) -> Registry:
        """Open the registry at ``path``, making it first if there is none.

        Raises:
            SchemaTooNewError: a newer expertbank wrote it.
            ExpertBankError: an older one did, or the folder cannot be written.
            IntegrityError: the file is something else.
        """
        schema.create(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Registry:
        """Open the registry at ``path``; with ``read_only`` nothing is ever written.

        Raises:
            NotFoundError: there is none.
            SchemaTooNewError: a newer expertbank wrote it.
            ExpertBankError: an older one did; the message names the upgrade command.
            IntegrityError: the file is something else.
        """
        schema.require_head(path)
        engine = engine_at(path, mode="ro" if read_only else "rw")
        return cls(path, engine, read_only=read_only)

    def close(self) -> None:
        """Let go of the file; calls that follow open it again."""
        self._engine.dispose()

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- backbone and tasks ----------------------------------------------------------------

    def backbone(self) -> BackboneRecord | None:
        """The bank's backbone, ``None`` before ``set_backbone``."""
        with read(self._engine) as session:
            row = queries.backbone_row(session)
            return None if row is None else rows.backbone_record(row)

    def set_backbone(self, record: BackboneRecord) -> BackboneRecord:
        """Fix the bank's backbone and feature spec; repeating the same is harmless.

        Raises:
            IntegrityError: the bank has another backbone; both digests are named.
            FeatureSpecError: the bank has another feature spec; the fields are named.
        """
        with write(self._engine) as session:
            return commits.set_backbone(session, record)

    def complete_backbone(self, *, revision: str | None, identity: str | None) -> None:
        """Record the backbone's commit and lasting identity, each if there is none yet."""
        with write(self._engine) as session:
            commits.complete_backbone(session, revision, identity)

    def tasks(self, include_removed: bool = False) -> tuple[TaskRecord, ...]:
        """Tasks by name."""
        with read(self._engine) as session:
            return tuple(map(rows.task_record, queries.task_rows(session, include_removed)))

    def task(self, name: str) -> TaskRecord:
        """One task, removed or not.

        Raises:
            NotFoundError: no such task; near names are listed.
        """
        with read(self._engine) as session:
            return rows.task_record(queries.task_row(session, name))

    # -- experts ---------------------------------------------------------------------------

    def experts(self, task: str | None = None) -> tuple[ExpertRecord, ...]:
        """All experts, or all versions of one task, by task and version.

        Raises:
            NotFoundError: no such task.
        """
        with read(self._engine) as session:
            found = queries.expert_rows(session, task)
            return tuple(rows.expert_record(row, name) for row, name in found)

    def expert(self, reference: str) -> ExpertRecord:
        """The expert named ``task`` (newest), ``task@version`` or by 6 or more digest digits.

        Raises:
            NotFoundError: no such expert; near names are listed.
            InputError: the digest digits fit several experts.
        """
        with read(self._engine) as session:
            return rows.expert_record(*queries.expert_row(session, reference))

    def members(self) -> tuple[ExpertRecord, ...]:
        """What a new router is trained over: newest version of every live task, by task."""
        with read(self._engine) as session:
            return queries.members(session)

    def member(self, task: str) -> ExpertRecord:
        """The newest expert of a live task, looked up alone.

        Raises:
            NotFoundError: no such task, or it was removed; near names are listed.
        """
        with read(self._engine) as session:
            return queries.member(session, task)

    def member_tasks(self) -> tuple[str, ...]:
        """The tasks of ``members()``, by name."""
        with read(self._engine) as session:
            return queries.member_tasks(session)

    def has_members(self) -> bool:
        """Whether ``members()`` would find any."""
        with read(self._engine) as session:
            return queries.has_members(session)

    def next_version(self, task: str) -> int:
        """The version a further expert of ``task`` would get; 1 for an unknown task."""
        with read(self._engine) as session:
            return queries.next_version(session, task)

    def remove_task(self, name: str, run: RunRecord) -> TaskRecord:
        """Set the task's tombstone; a task that is removed already stays as it is.

        Args:
            name: the task.
            run: kept as the record of the removal.

        Raises:
            NotFoundError: no such task.
        """
        with write(self._engine) as session:
            return rows.task_record(commits.remove_task(session, name, run))

    def generation(self) -> int:
        """A number that grows with every change of ``members()``."""
        with read(self._engine) as session:
            return queries.generation(session)

    def commit_expert(
        self,
        task: TaskRecord,
        run: RunRecord,
        expert: ExpertRecord,
        artifacts: Sequence[ArtifactRecord],
        features: FeatureSetRecord,
        evaluations: Sequence[EvaluationRecord],
    ) -> ExpertRecord:
        """Register an expert with its run, files, features and oracle evaluations.

        A task that exists keeps its row (and becomes live again if it was removed): labels of
        a later version are the expert's own. Artifacts that exist are shared.

        Raises:
            ExistsError: this version of the task is registered.
            InputError: the task has another kind, or the records name different experts.
            FeatureSpecError: the features do not follow the bank's feature spec.
            IntegrityError: trained on another backbone, or an artifact is not listed.
        """
        with write(self._engine) as session:
            return commits.commit_expert(
                session, task, run, expert, artifacts, features, evaluations
            )

    def feature_set(self, expert_id: str) -> FeatureSetRecord:
        """Cached routing features of an expert.

        Raises:
            NotFoundError: no such expert, or its features were removed.
        """
        with read(self._engine) as session:
            return queries.feature_set(session, expert_id)

    def feature_sets(self) -> tuple[FeatureSetRecord, ...]:
        """Cached routing features of all experts that have any, by expert."""
        with read(self._engine) as session:
            return queries.feature_sets(session)

    def evaluations(
        self, expert_id: str | None = None, *, router_version: EvaluationsOf = "all"
    ) -> tuple[EvaluationRecord, ...]:
        """Measurements in the order they were made.

        Args:
            expert_id: of this expert only; any name that ``expert`` takes.
            router_version: ``"oracle"`` for those with the expert named, a version for those
                under one router, ``"routed"`` for those under any router, ``"all"`` for all.

        Raises:
            NotFoundError: no such expert.
        """
        with read(self._engine) as session:
            return queries.evaluations(session, expert_id, router_version)

    # -- routers and aliases ---------------------------------------------------------------

    def commit_router(
        self,
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
        """Register a router under the next version, or return the equal one that exists.

        Args:
            router: its ``version`` is ignored; its digest must cover gate and members.
            run: what trained it.
            artifacts: files it needs.
            evaluations: routed measurements; their ``router_version`` is ignored.
            expected_generation: ``generation()`` when its features were read.
            activate: move the alias ``active`` to it.
            reason: why, for the alias's history.
            members: digests by id of the experts it was trained on; where given, they are
                compared too, since a restored database may have the same generation again.

        Raises:
            StaleError: the bank changed since; nothing was written.
            NotFoundError: a member is not registered.
            IntegrityError: equal digest with other members, or another backbone.
            FeatureSpecError: not trained on the bank's feature spec.
        """
        with write(self._engine) as session:
            record = commits.commit_router(
                session,
                router,
                run,
                artifacts,
                evaluations,
                expected_generation=expected_generation,
                members=members,
            )
            if activate:
                commits.move_alias(session, names.ACTIVE, record.version, reason)
            return record

    def routers(self) -> tuple[RouterRecord, ...]:
        """Routers by version."""
        with read(self._engine) as session:
            return queries.routers(session)

    def router(self, reference: str | int = names.ACTIVE) -> RouterRecord:
        """The router named by version, ``router@N``, alias or 6 or more digest digits.

        Raises:
            NotFoundError: no such router.
            InputError: the digest digits fit several routers.
        """
        with read(self._engine) as session:
            return queries.router(session, reference)

    def aliases(self) -> tuple[AliasRecord, ...]:
        """Aliases by name."""
        with read(self._engine) as session:
            found = session.scalars(select(AliasRow).order_by(AliasRow.name))
            return tuple(map(rows.alias_record, found))

    def set_alias(self, name: str, router: str | int, reason: str) -> AliasRecord:
        """Point ``name`` at a router; an event is kept unless it points there already.

        Raises:
            InputError: ``name`` is not usable as an alias.
            NotFoundError: no such router, or the files of one of its experts were deleted.
        """
        with write(self._engine) as session:
            version = queries.router(session, router).version
            commits.move_alias(session, name, version, reason)
            return AliasRecord(name, version)

    def alias_events(self, name: str | None = None) -> tuple[AliasEvent, ...]:
        """Every move of all aliases or of one, oldest first."""
        query = select(AliasEventRow).order_by(AliasEventRow.id)
        if name is not None:
            query = query.where(AliasEventRow.name == name)
        with read(self._engine) as session:
            return tuple(map(rows.alias_event, session.scalars(query)))

    # -- lineage ---------------------------------------------------------------------------

    def run(self, run_id: int) -> RunRecord:
        """What made something.

        Raises:
            NotFoundError: no such run.
        """
        with read(self._engine) as session:
            row = session.get(RunRow, run_id)
            if row is None:
                raise NotFoundError(f"no run with id {run_id}")
            return rows.run_record(row)

    def runs(self) -> tuple[RunRecord, ...]:
        """Runs in the order they were registered."""
        with read(self._engine) as session:
            return tuple(map(rows.run_record, session.scalars(select(RunRow).order_by(RunRow.id))))

    def artifacts(self) -> tuple[ArtifactRecord, ...]:
        """Files by digest; those with ``purged_at`` are no longer in the store."""
        with read(self._engine) as session:
            found = session.scalars(select(ArtifactRow).order_by(ArtifactRow.digest))
            return tuple(map(rows.artifact_record, found))

    def artifact(self, digest: str) -> ArtifactRecord:
        """One file, by its full digest.

        Raises:
            NotFoundError: no such artifact.
        """
        with read(self._engine) as session:
            row = session.get(ArtifactRow, digest)
            if row is None:
                raise NotFoundError(f"no artifact with digest {digest}")
            return rows.artifact_record(row)

    def purgeable(self) -> Purge:
        """What belongs only to removed tasks, and what still needs it."""
        with read(self._engine) as session:
            return purging.plan(session)

    def commit_purge(self, purge: Purge, run: RunRecord) -> None:
        """Let go of the files of removed tasks; their bytes may be deleted only after this.

        Raises:
            StaleError: something changed since ``purgeable``; nothing was written.
        """
        with write(self._engine) as session:
            commits.commit_purge(session, purge, run)

    def purged_members(self, router: int) -> tuple[str, ...]:
        """Experts of a router whose files were deleted on purpose; empty for a usable router."""
        with read(self._engine) as session:
            return tuple(purging.purged_members(session, router))

    def commit_export(self, record: ExportRecord) -> ExportRecord:
        """Register a bundle that was written and verified.

        Raises:
            NotFoundError: no such router.
        """
        with write(self._engine) as session:
            return commits.commit_export(session, record)

    def exports(self) -> tuple[ExportRecord, ...]:
        """Bundles in the order they were written."""
        with read(self._engine) as session:
            found = session.scalars(select(ExportRow).order_by(ExportRow.id))
            return tuple(map(rows.export_record, found))

    def history(self) -> tuple[HistoryEvent, ...]:
        """What happened to the bank, oldest first."""
        with read(self._engine) as session:
            return history.events(session)

    # -- care ------------------------------------------------------------------------------

    def check(self) -> tuple[Problem, ...]:
        """What is wrong with the registry: file, foreign keys, triggers, routers, aliases."""
        return health.problems(self._engine, self.path)

    def backup(self, target: Path) -> Path:
        """Write a consistent copy to ``target``.

        Raises:
            ExistsError: ``target`` exists.
            ExpertBankError: it cannot be written.
        """
        return schema.copy_to(self.path, target)

    def probe_writable(self) -> None:
        """Fail now rather than after training: begin a write and take it back.

        Raises:
            ExpertBankError: opened read-only, or the file or folder cannot be written.
        """
        if self.read_only:
            raise ExpertBankError(f"{self.path} was opened read-only; open it for writing")
        probe(self._engine)
