"""What the other rooms need of a registry, whatever database keeps it.

``Registry`` is an open one, ``RegistryLocation`` the place where one is or will be. The suite
``expertbank.testing.registries`` holds an implementation to every promise made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

from expertbank.records import (
    AliasEvent,
    AliasRecord,
    ArtifactRecord,
    BackboneRecord,
    EvaluationRecord,
    ExpertRecord,
    ExportRecord,
    FeatureSetRecord,
    Forgetting,
    HistoryEvent,
    Problem,
    Purge,
    RouterRecord,
    RunRecord,
    StatisticsRecord,
    TaskRecord,
)
from expertbank.registry.names import ACTIVE

EvaluationsOf = Literal["all", "oracle", "routed", "last"] | int
"""Which measurements: see ``Registry.evaluations``."""

Fits = Callable[[Sequence[TaskRecord], Iterable[TaskRecord]], None]
"""Raises where tasks, as they are to be, cannot be in a group with those that are there."""
REMOVE, PURGE, FORGET, GROUP = "remove", "purge", "forget-routers", "group"
"""Kinds of the runs that are kept of what makes nothing: they are how history knows of it."""


class Registry(Protocol):
    """An open registry; safe to share between threads.

    Reads are one consistent view each. Writes are one transaction each and wait for each other,
    so a process that dies at any moment leaves the registry as it was before or after, never
    between. What was registered never changes: experts, routers, runs and measurements stay as
    they are; only aliases move, and tasks may be removed, come back and change their group.

    Any method may raise ``LockedError`` (others kept it for too long) or ``IntegrityError`` (it
    is damaged); their docstrings name what is special to them.
    """

    @property
    def read_only(self) -> bool:
        """Whether it was opened so that nothing is ever written."""

    def close(self) -> None:
        """Let go of the database; calls that follow open it again."""

    def __enter__(self) -> Registry: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def bank_id(self) -> str:
        """What tells this bank from every other: fixed when its registry was made, kept by copies.

        32 hexadecimal digits.
        """
        ...

    # -- backbone and tasks ----------------------------------------------------------------

    def backbone(self) -> BackboneRecord | None:
        """The bank's backbone, ``None`` before ``set_backbone``."""

    def set_backbone(self, record: BackboneRecord) -> BackboneRecord:
        """Fix the bank's backbone and feature spec; repeating the same is harmless.

        Raises:
            IntegrityError: the bank has another backbone; both digests are named.
            FeatureSpecError: the bank has another feature spec; the fields are named.
        """

    def complete_backbone(self, *, revision: str | None, identity: str | None) -> None:
        """Record the backbone's commit and lasting identity, each if there is none yet."""
        ...

    def tasks(self, include_removed: bool = False) -> tuple[TaskRecord, ...]:
        """Tasks by name."""

    def task(self, name: str) -> TaskRecord:
        """One task, removed or not.

        Raises:
            NotFoundError: no such task; near names are listed.
        """

    def tasks_as_read(self) -> tuple[TaskRecord, ...]:
        """All tasks by name, removed ones too, each with the spec of its newest version."""
        ...

    def remove_task(self, name: str, run: RunRecord) -> TaskRecord:
        """Set the task's tombstone; a task that is removed already stays as it is.

        Args:
            name: the task.
            run: kept as the record of the removal.

        Raises:
            NotFoundError: no such task.
        """

    def set_group(
        self,
        tasks: Sequence[str],
        group: str | None,
        run: RunRecord,
        fits: Fits | None = None,
    ) -> tuple[TaskRecord, ...]:
        """Put tasks into a group, or let them stand alone, for every router to come.

        Routers that are fitted keep their groups. Tasks that are there already stay as they are;
        if all are, nothing is written.

        Args:
            tasks: the tasks, removed ones too.
            group: the group's name; ``None`` for none.
            run: kept as the record of it, with the group and where each moved task was as its
                configuration.
            fits: asked in the same transaction of the tasks that would move.

        Returns:
            The tasks as they were before.

        Raises:
            NotFoundError: no such task; nothing was written.
            InputError: ``fits`` refuses one; nothing was written.
        """

    # -- experts ---------------------------------------------------------------------------

    def experts(self, task: str | None = None) -> tuple[ExpertRecord, ...]:
        """All experts, or all versions of one task, by task and version.

        Raises:
            NotFoundError: no such task.
        """

    def expert(self, reference: str) -> ExpertRecord:
        """The expert named ``task`` (newest), ``task@version`` or by 6 or more digest digits.

        Raises:
            NotFoundError: no such expert; near names are listed.
            InputError: the digest digits fit several experts.
        """

    def members(self) -> tuple[ExpertRecord, ...]:
        """What a new router is trained over: newest version of every live task, by task."""

    def member(self, task: str) -> ExpertRecord:
        """The newest expert of a live task, looked up alone.

        Raises:
            NotFoundError: no such task, or it was removed; near names are listed.
        """

    def member_tasks(self) -> tuple[str, ...]:
        """The tasks of ``members()``, by name."""

    def has_members(self) -> bool:
        """Whether ``members()`` would find any."""

    def next_version(self, task: str) -> int:
        """The version a further expert of ``task`` would get; 1 for an unknown task."""

    def generation(self) -> int:
        """A number that grows with every change of ``members()`` or of the tasks' groups."""

    def commit_expert(
        self,
        task: TaskRecord,
        run: RunRecord,
        expert: ExpertRecord,
        artifacts: Sequence[ArtifactRecord],
        features: FeatureSetRecord,
        evaluations: Sequence[EvaluationRecord],
        statistics: StatisticsRecord | None = None,
        fits: Fits | None = None,
    ) -> ExpertRecord:
        """Register an expert with its run, files, features, statistics and oracle evaluations.

        A task that exists keeps its row (and becomes live again if it was removed): labels of
        a later version are the expert's own. Artifacts that exist are shared. ``fits`` is asked
        in the same transaction where the task is in a group.

        Raises:
            ExistsError: this version of the task is registered.
            InputError: the task has another kind, a group is named that it is not in, ``fits``
                refuses it, or the records name different experts.
            FeatureSpecError: the features do not follow the bank's feature spec.
            IntegrityError: trained on another backbone, or an artifact is not listed.
        """

    def feature_set(self, expert_id: str) -> FeatureSetRecord:
        """Cached routing features of an expert.

        Raises:
            NotFoundError: no such expert, or its features were removed.
        """

    def feature_sets(self) -> tuple[FeatureSetRecord, ...]:
        """Cached routing features of all experts that have any, by expert."""

    def add_statistics(
        self, records: Sequence[StatisticsRecord], artifacts: Sequence[ArtifactRecord]
    ) -> None:
        """Register statistics of experts that were added before there were any.

        Those of an expert that has some, or whose features were deleted meanwhile, are left out.

        Raises:
            NotFoundError: no such expert.
            FeatureSpecError: they do not follow the bank's feature spec.
        """

    def statistics(self, expert_id: str | None = None) -> tuple[StatisticsRecord, ...]:
        """Statistics of all experts that have any, by expert, or of one only."""

    def evaluations(
        self, expert_id: str | None = None, *, router_version: EvaluationsOf = "all"
    ) -> tuple[EvaluationRecord, ...]:
        """Measurements in the order they were made.

        Args:
            expert_id: of this expert only; any name that ``expert`` takes.
            router_version: ``"oracle"`` for those with the expert named, ``"routed"`` for those
                under any router, ``"all"`` for all. A version for what that router's members
                were measured under it: each one's newest that is not of a later router.
                ``"last"`` for every expert's newest under any router, if its file is there.

        Raises:
            NotFoundError: no such expert.
        """

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

        A measurement is stored where it changed: one whose file is that of the expert's newest
        holds already, and adds no row. A router that was forgotten and comes again is kept again,
        with what is measured now.

        Args:
            router: its ``version`` is ignored; its digest must cover gate and members.
            run: what trained it.
            artifacts: files it needs.
            evaluations: routed measurements of all members; their ``router_version`` is ignored.
            expected_generation: ``generation()`` when its features were read.
            activate: move the alias ``active`` to it.
            reason: why, for the alias's history.
            members: digests by id of the experts it was trained on; where given, they are
                compared too, since a restored database may have the same generation again.

        Raises:
            StaleError: the bank changed since; nothing was written.
            NotFoundError: a member is not registered.
            IntegrityError: equal digest with other members or groups, or another backbone.
            FeatureSpecError: not trained on the bank's feature spec.
        """

    def routers(self) -> tuple[RouterRecord, ...]:
        """Routers by version."""

    def router(self, reference: str | int = ACTIVE) -> RouterRecord:
        """The router named by version, ``router@N``, alias or 6 or more digest digits.

        Raises:
            NotFoundError: no such router.
            InputError: the digest digits fit several routers.
        """

    def aliases(self) -> tuple[AliasRecord, ...]:
        """Aliases by name."""

    def set_alias(self, name: str, router: str | int, reason: str) -> AliasRecord:
        """Point ``name`` at a router; an event is kept unless it points there already.

        Raises:
            InputError: ``name`` is not usable as an alias.
            NotFoundError: no such router, it was forgotten, or the files of one of its experts
                were deleted.
        """

    def alias_events(self, name: str | None = None) -> tuple[AliasEvent, ...]:
        """Every move of all aliases or of one, oldest first."""

    # -- lineage ---------------------------------------------------------------------------

    def run(self, run_id: int) -> RunRecord:
        """What made something.

        Raises:
            NotFoundError: no such run.
        """

    def artifacts(self) -> tuple[ArtifactRecord, ...]:
        """Files by digest; those with ``purged_at`` are no longer in the store."""

    def purged_experts(self) -> tuple[str, ...]:
        """``task@version`` of experts whose files ``gc`` deleted after their task was removed."""

    def purgeable(self) -> Purge:
        """What belongs only to removed tasks, and what still needs it."""

    def commit_purge(self, purge: Purge, run: RunRecord) -> None:
        """Let go of the files of removed tasks; their bytes may be deleted only after this.

        Raises:
            StaleError: something changed since ``purgeable``; nothing was written.
        """

    def forgettable(self, keep: int) -> Forgetting:
        """What only routers need that are neither of the ``keep`` newest nor named by an alias.

        Never an expert's first routed choices, with which reports compare.
        """

    def commit_forgetting(self, forgetting: Forgetting, run: RunRecord) -> None:
        """Let go of the files of old routers; their bytes may be deleted only after this.

        Their rows stay. ``run`` is kept as the record of it.

        Raises:
            StaleError: something changed since ``forgettable``; nothing was written.
        """
        ...

    def commit_export(self, record: ExportRecord) -> ExportRecord:
        """Register a bundle that was written and verified.

        Raises:
            NotFoundError: no such router.
        """

    def history(self) -> tuple[HistoryEvent, ...]:
        """What happened to the bank, oldest first."""

    # -- care ------------------------------------------------------------------------------

    def check(self) -> tuple[Problem, ...]:
        """What is wrong with the registry: database, routers, aliases, deleted files."""

    def backup(self, target: Path) -> Path:
        """Write a consistent copy to the file ``target`` while others may use the registry.

        Raises:
            ExistsError: ``target`` exists.
            ExpertBankError: it cannot be written.
        """

    def probe_writable(self) -> None:
        """Fail now rather than after training: begin a write and take it back.

        Raises:
            ExpertBankError: opened read-only, or the database cannot be written.
        """


class RegistryLocation(Protocol):
    """Where a registry is or will be; can be pickled, for other processes."""

    def exists(self) -> bool:
        """Whether there is a registry; one whose making was interrupted is none.

        Raises:
            IntegrityError: what is there is something else.
        """

    def open(self, *, read_only: bool = False) -> Registry:
        """Open the registry; with ``read_only`` nothing is ever written.

        Raises:
            NotFoundError: there is none.
            SchemaTooNewError: a newer expertbank wrote it.
            ExpertBankError: an older one did; the message names the upgrade command.
            IntegrityError: what is there is something else.
        """

    def create(self) -> Registry:
        """Open the registry, making it first if there is none; several processes may at once.

        Raises:
            SchemaTooNewError: a newer expertbank wrote it.
            ExpertBankError: an older one did, or the place cannot be written.
            IntegrityError: what is there is something else.
        """

    def describe(self) -> str:
        """The place in words for messages, without secrets."""
