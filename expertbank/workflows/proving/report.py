"""``forgetting-report``: rehash what the figures rest on, read stored evidence, work them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from expertbank.config import DEFAULT_MARGIN
from expertbank.errors import InputError, IntegrityError
from expertbank.evaluation.history import Earlier, RouterView, TaskHistory
from expertbank.evaluation.outcome import Answered
from expertbank.evaluation.predictions import Predictions
from expertbank.kinds import KINDS
from expertbank.records import (
    EvaluationRecord,
    ExpertRecord,
    ProgressCallback,
    RouterRecord,
    no_progress,
)
from expertbank.registry.names import forgotten
from expertbank.reports.build import build_report
from expertbank.reports.forgetting import ForgettingReport
from expertbank.settings import number
from expertbank.workflows.active_router import active_router
from expertbank.workflows.none_alive import no_expert
from expertbank.workflows.presence import require_kept
from expertbank.workflows.proving.bank_map import map_where_possible
from expertbank.workflows.proving.evidence import RESTORE, StoredChoices, same_count
from expertbank.workflows.proving.lineage import check_router, lineage
from expertbank.workflows.proving.rerouting import views_from_source
from expertbank.workflows.proving.verification import Verified, check_choices, verify_expert
from expertbank.workflows.workspace import Workspace

if TYPE_CHECKING:
    from expertbank.routing.router import Router


def forgetting_report(
    workspace: Workspace,
    *,
    margin: float = DEFAULT_MARGIN,
    start: str | int | None = None,
    end: str | int | None = None,
    verify: bool = False,
    sample: int | None = None,
    with_map: bool = False,
    progress: ProgressCallback = no_progress,
) -> ForgettingReport:
    """Report on a router; without one, on the experts alone.

    Args:
        workspace: the open bank.
        margin: the largest loss that the verdicts allow, above 0 and below 1.
        start: router to compare with, by version, ``router@N`` or alias; without it each task
            is compared with its first router, whichever version of its expert answered then.
        end: router to report on; without it the active one.
        verify: run evaluation rows through the real model again.
        sample: with ``verify`` run only so many rows of each task, chosen by a fixed seed.
        with_map: put the map of the router's tasks in, where there can be one.
        progress: told as verification goes on.

    Raises:
        NotFoundError: the bank has no live expert, or no such router, or it was forgotten.
        InputError: a margin or sample that cannot be.
        IntegrityError: stored evidence is damaged, the backbone is another one, or, with
            ``verify``, a row's answer differs; the message names the first such row.
    """
    _check_options(margin, sample, verify=verify)
    registry = workspace.registry
    before = None if start is None else registry.router(start)
    router = active_router(registry) if end is None else registry.router(end)
    if router is not None:
        require_kept(workspace, router)
    experts = _experts(workspace, router)
    if not experts:
        raise no_expert(registry)
    shown = {r.version: r for r in (before, router) if r is not None}
    for one in shown.values():
        if one.forgotten_at is not None:
            raise forgotten(one.version)
    if verify:
        workspace.held.recheck()
    digests = {expert.id: expert.digest for expert in registry.experts()}
    for one in shown.values():
        check_router(workspace, one, digests)
    every = registry.routers() if shown else ()
    routers = [r for r in every if router is not None and r.version <= router.version]
    reader = _Reader(workspace, every, [*routers, *shown.values()], progress)
    verified: dict[str, Verified] = {}
    histories, answers = [], {}
    for expert in experts:
        stored, predictions, oracle = reader.answered(expert)
        answers[expert.id] = stored.artifact_digest
        identical = _rehash(workspace, expert)
        views = reader.views(expert, oracle, routers)
        now = next((v for v in views if router is not None and v.version == router.version), None)
        if verify and identical:
            chosen = None if now is None else (now, reader.loaded(now.version))
            verified[expert.task] = verify_expert(
                workspace, expert, stored, predictions, chosen, progress, sample=sample
            )
            for view in views:
                if view.version in shown:
                    gate = reader.loaded(view.version)
                    check_choices(workspace, expert, view, gate, oracle.row_digests)
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
                reader.earlier(expert.task, before) if before else reader.first(expert, routers),
                stored.metrics.get("majority"),
                stored.metrics.get("p_beats_majority"),
                reader.begin(expert, oracle, routers),
                reader.unread.get(expert.task),
            )
        )
    return build_report(
        histories,
        router=router.version if router else None,
        start=before.version if before else None,
        margin=margin,
        lineage=lineage(workspace, experts, [*_kept(routers), *shown.values()], answers),
        verification={task: v.to_dict() for task, v in verified.items()} if verify else None,
        bank_map=map_where_possible(workspace, router) if with_map and router else None,
    )


def _check_options(margin: float, sample: int | None, *, verify: bool) -> None:
    if not isinstance(margin, int | float) or not 0 < margin < 1:
        raise InputError(f"the margin is a share above 0 and below 1, such as 0.01; got {margin!r}")
    if sample is not None:
        number(sample, "sample", "forgetting-report", int, least=1)
    if sample is not None and not verify:
        raise InputError("a sample is of the rows that are run again; add --verify")


def _experts(workspace: Workspace, router: RouterRecord | None) -> list[ExpertRecord]:
    """One expert a task: the router's, or the newest where the router does not know the task."""
    by_task = {expert.task: expert for expert in workspace.registry.members()}
    members = set(router.members) if router else set()
    chosen = [expert for expert in workspace.registry.experts() if expert.id in members]
    by_task |= {expert.task: expert for expert in chosen}
    return [by_task[task] for task in sorted(by_task)]


def _rehash(workspace: Workspace, expert: ExpertRecord) -> bool:
    try:
        workspace.store.get(expert.digest)
    except IntegrityError:
        return False
    return True


def _kept(routers: Sequence[RouterRecord]) -> list[RouterRecord]:
    return [router for router in routers if router.forgotten_at is None]


class _Reader:
    """Reads evidence, rehashed by the store, and compares it with what the registry says.

    Args:
        workspace: the open bank.
        every: all routers that it has.
        used: those that the report is about.
        progress: told as rows are read from their source.

    Attributes:
        unread: per task why its rows could not be read from their source again, where they must
            be, and what to do.
    """

    def __init__(
        self,
        workspace: Workspace,
        every: Sequence[RouterRecord],
        used: Sequence[RouterRecord],
        progress: ProgressCallback,
    ) -> None:
        self._workspace = workspace
        self._progress = progress
        self._routers = {router.version: router for router in every}
        self._experts = {
            router.version: {name.partition("@")[0]: name for name in router.members}
            for router in every
        }
        self._loaded: dict[int, Router] = {}
        self._purged = set(workspace.registry.purged_experts())
        self._choices = StoredChoices(workspace, every if used else ())
        self._choices.check({router.version: router for router in used}.values())
        self.unread: dict[str, str] = {}

    def loaded(self, version: int) -> Router:
        """A router's gate, read once."""
        if version not in self._loaded:
            self._loaded[version] = self._workspace.router(self._routers[version])
        return self._loaded[version]

    def answered(self, expert: ExpertRecord) -> tuple[EvaluationRecord, Predictions, Answered]:
        """The expert's stored predictions, and what they came to."""
        found = self._workspace.registry.evaluations(expert.id, router_version="oracle")
        if len(found) != 1:
            raise IntegrityError(
                f"{expert.id}: the registry holds {len(found)} evaluations with the expert named, "
                f"expected one; {RESTORE}"
            )
        (stored,) = found
        predictions = Predictions.from_bytes(
            self._workspace.store.get(stored.artifact_digest), f"answers of {expert.id}"
        )
        outcome = KINDS.get(expert.kind).outcome(predictions)
        same_count(expert.id, "the expert named", stored.correct, outcome.correct())
        answered = Answered(outcome, predictions.row_digests, predictions.clusters)
        return stored, predictions, answered

    def views(
        self, expert: ExpertRecord, oracle: Answered, routers: Sequence[RouterRecord]
    ) -> tuple[RouterView, ...]:
        """What each of the routers that are kept chose for the expert's rows, by version.

        Where the bank keeps statistics of it only, rows are read from their source and routed now.
        """
        own = [router for router in _kept(routers) if self._knows(router, expert)]
        if expert.id in self._choices.unmeasured:
            found, why = views_from_source(self._workspace, expert, oracle, own, self._progress)
            if why is not None:
                self.unread.setdefault(expert.task, why)
            return found
        return tuple(self._choices.view(expert, oracle, router) for router in own)

    def begin(
        self, expert: ExpertRecord, oracle: Answered, routers: Sequence[RouterRecord]
    ) -> RouterView | None:
        """What the first router that contained the expert chose, where it was forgotten."""
        first = next((router for router in routers if self._knows(router, expert)), None)
        if first is None or first.forgotten_at is None or expert.id in self._choices.unmeasured:
            return None
        return self._choices.view(expert, oracle, first)

    def earlier(self, task: str, router: RouterRecord) -> Earlier | None:
        """The task under ``router``, if it knew the task and its files were not purged."""
        name = self._experts[router.version].get(task)
        if name is None or name in self._purged:
            return None
        expert = self._workspace.registry.expert(name)
        _, _, oracle = self.answered(expert)
        view = self.begin(expert, oracle, [router])
        view = view or next(iter(self.views(expert, oracle, [router])), None)
        return None if view is None else Earlier(expert.id, oracle, view)

    def first(self, expert: ExpertRecord, routers: Sequence[RouterRecord]) -> Earlier | None:
        """The task under the first router that knew it, if another version answered it then.

        A version whose files were purged leaves nothing to compare with: the next one counts.
        """
        for router in routers:
            if self._knows(router, expert):
                return None
            if found := self.earlier(expert.task, router):
                return found
        return None

    def _knows(self, router: RouterRecord, expert: ExpertRecord) -> bool:
        return self._experts[router.version].get(expert.task) == expert.id
