"""``forgetting-report``: rehash what the figures rest on, read stored evidence, work them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expertbank.errors import InputError, IntegrityError, NotFoundError
from expertbank.evaluation.evidence import RoutedEvidence
from expertbank.evaluation.history import Earlier, RouterView, TaskHistory, router_columns
from expertbank.evaluation.outcome import Answered
from expertbank.evaluation.predictions import Predictions
from expertbank.evaluation.verdicts import DEFAULT_MARGIN
from expertbank.kinds import KINDS
from expertbank.records import (
    EvaluationRecord,
    ExpertRecord,
    ProgressCallback,
    RouterRecord,
    no_progress,
)
from expertbank.reports.build import build_report
from expertbank.reports.forgetting import ForgettingReport
from expertbank.workflows.proving.lineage import check_router, lineage
from expertbank.workflows.proving.rerouting import views_from_source
from expertbank.workflows.proving.verification import Verified, check_choices, verify_expert
from expertbank.workflows.workspace import Workspace


def forgetting_report(
    workspace: Workspace,
    *,
    margin: float = DEFAULT_MARGIN,
    start: str | int | None = None,
    end: str | int | None = None,
    verify: bool = False,
    sample: int | None = None,
    progress: ProgressCallback = no_progress,
) -> ForgettingReport:
    """Report on a router; without one, on the experts alone.

    Args:
        workspace: the open bank.
        margin: the largest loss that the verdicts allow, above 0 and below 1.
        start: router to compare with, by version, ``router@N`` or alias; without it each task
            is compared with its first router.
        end: router to report on; without it the active one.
        verify: run evaluation rows through the real model again.
        sample: with ``verify`` run only so many rows of each task, chosen by a fixed seed.
        progress: told as verification goes on.

    Raises:
        NotFoundError: the bank has no expert yet, or no such router.
        InputError: a margin or sample that cannot be.
        IntegrityError: stored evidence is damaged, the backbone is another one, or, with
            ``verify``, a row's answer differs; the message names the first such row.
    """
    _check_options(margin, sample, verify=verify)
    registry = workspace.registry
    before = None if start is None else registry.router(start)
    router = _active_router(workspace) if end is None else registry.router(end)
    experts = _experts(workspace, router)
    if not experts:
        raise NotFoundError("the bank has no expert yet; first run: expertbank add --task T")
    if verify:
        workspace.recheck_backbone()
    routers = [r for r in registry.routers() if router is not None and r.version <= router.version]
    digests = {expert.id: expert.digest for expert in registry.experts()}
    for shown in {r.version: r for r in (before, router) if r is not None}.values():
        check_router(workspace, shown, digests)
    groups = {t.name: t.group for t in registry.tasks(include_removed=True)}
    reader = _Reader(workspace, groups, progress)
    verified: dict[str, Verified] = {}
    histories, answers = [], {}
    for expert in experts:
        stored, predictions, oracle = reader.answered(expert)
        answers[expert.id] = stored.artifact_digest
        identical = _rehash(workspace, expert)
        views = reader.views(expert, oracle, routers)
        now = next((v for v in views if router is not None and v.version == router.version), None)
        if verify and identical:
            verified[expert.task] = verify_expert(
                workspace, expert, stored, predictions, now, progress, sample=sample
            )
            for view in views:
                if view.version in {r.version for r in (before, router) if r is not None}:
                    check_choices(workspace, expert, view, oracle.row_digests)
        found = verified.get(expert.task)
        histories.append(
            TaskHistory(
                expert.task,
                expert.id,
                stored.n,
                stored.metrics.get(oracle.outcome.metric),
                identical,
                oracle,
                views,
                found.quality if found else None,
                reader.earlier(expert.task, before) if before else None,
                stored.metrics.get("majority"),
                stored.metrics.get("p_beats_majority"),
            )
        )
    return build_report(
        histories,
        router=router.version if router else None,
        start=before.version if before else None,
        margin=margin,
        lineage=lineage(workspace, experts, [*routers, *([before] if before else [])], answers),
        verification={task: v.to_dict() for task, v in verified.items()} if verify else None,
    )


def _check_options(margin: float, sample: int | None, *, verify: bool) -> None:
    if not 0 < margin < 1:
        raise InputError(f"the margin is a share above 0 and below 1, such as 0.01; got {margin}")
    if sample is not None and sample < 1:
        raise InputError(f"a sample has at least one row a task; got {sample}")
    if sample is not None and not verify:
        raise InputError("a sample is of the rows that are run again; add --verify")


def _active_router(workspace: Workspace) -> RouterRecord | None:
    try:
        return workspace.registry.router()
    except NotFoundError:
        return None


def _experts(workspace: Workspace, router: RouterRecord | None) -> list[ExpertRecord]:
    """One expert a task: the router's, or the newest where the router does not know the task."""
    by_task = {expert.task: expert for expert in workspace.registry.members()}
    for name in router.members if router else ():
        expert = workspace.registry.expert(name)
        by_task[expert.task] = expert
    return [by_task[task] for task in sorted(by_task)]


def _rehash(workspace: Workspace, expert: ExpertRecord) -> bool:
    try:
        workspace.store.get(expert.digest)
    except IntegrityError:
        return False
    return True


class _Reader:
    """Reads evidence, rehashed by the store, and compares it with what the registry says."""

    def __init__(
        self,
        workspace: Workspace,
        groups: Mapping[str, str | None],
        progress: ProgressCallback,
    ) -> None:
        self._workspace = workspace
        self._groups = groups
        self._progress = progress

    def answered(self, expert: ExpertRecord) -> tuple[EvaluationRecord, Predictions, Answered]:
        """The expert's stored predictions, and what they came to."""
        found = self._workspace.registry.evaluations(expert.id, router_version="oracle")
        if len(found) != 1:
            raise IntegrityError(
                f"{expert.id}: the registry holds {len(found)} evaluations with the expert named, "
                "expected one; restore the database from a backup: expertbank db --help"
            )
        (stored,) = found
        predictions = Predictions.from_bytes(
            self._workspace.store.get(stored.artifact_digest), f"answers of {expert.id}"
        )
        outcome = KINDS.get(expert.kind).outcome(predictions)
        _same_count(expert.id, "the expert named", stored.correct, outcome.correct())
        answered = Answered(outcome, predictions.row_digests, predictions.clusters)
        return stored, predictions, answered

    def views(
        self, expert: ExpertRecord, oracle: Answered, routers: Sequence[RouterRecord]
    ) -> tuple[RouterView, ...]:
        """What each of the routers chose for the expert's rows, by version.

        Where the bank keeps statistics only, the rows are read from their source and routed now.
        """
        if self._workspace.spec.keep == "stats":
            return views_from_source(self._workspace, expert, oracle, routers, self._progress)
        by_version = {router.version: router for router in routers}
        views = []
        for record in self._workspace.registry.evaluations(expert.id, router_version="routed"):
            router = by_version.get(record.router_version or 0)
            if router is None:
                continue
            evidence = RoutedEvidence.from_bytes(
                self._workspace.store.get(record.artifact_digest),
                f"choices of router@{router.version}",
            )
            tasks = [member.partition("@")[0] for member in router.members]
            view = RouterView(router.version, router_columns(tasks, self._groups), evidence)
            if len(evidence.choice) == oracle.outcome.n:
                view.check(expert.id)
                correct = oracle.outcome.correct(view.chose(expert.task))
                under = f"router@{router.version}"
                _same_count(expert.id, under, record.correct, correct)
                quality = view.quality(expert.task, oracle)
                if record.metrics.get("quality", quality) != quality:
                    raise IntegrityError(
                        f"{expert.id}: with {under} the registry says quality "
                        f"{record.metrics['quality']}, the stored evidence gives {quality}; "
                        "restore the database from a backup: expertbank db --help"
                    )
            views.append(view)
        missing = [r.version for r in routers if expert.id in r.members]
        if missing != sorted(view.version for view in views):
            raise IntegrityError(
                f"{expert.id}: routers {missing} contain it, but evaluations are stored under "
                f"{sorted(view.version for view in views)}; restore the database from a backup: "
                "expertbank db --help"
            )
        return tuple(sorted(views, key=lambda view: view.version))

    def earlier(self, task: str, router: RouterRecord) -> Earlier | None:
        """The task under ``router``, if it knew the task."""
        for name in router.members:
            if name.partition("@")[0] == task:
                expert = self._workspace.registry.expert(name)
                _, _, oracle = self.answered(expert)
                views = self.views(expert, oracle, [router])
                return Earlier(expert.id, oracle, views[0]) if views else None
        return None


def _same_count(expert_id: str, under: str, recorded: int, recounted: int) -> None:
    if recorded != recounted:
        raise IntegrityError(
            f"{expert_id}: with {under} the registry says {recorded} rows were right, the stored "
            f"evidence gives {recounted}; restore the database from a backup: "
            "expertbank db --help"
        )
