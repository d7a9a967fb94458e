"""``forgetting-report``: rehash every expert, read stored evidence, optionally run rows again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expertbank.errors import ExpertBankError, IntegrityError, NotFoundError
from expertbank.evaluation.evidence import OracleEvidence, RoutedEvidence
from expertbank.evaluation.forgetting import (
    ForgettingReport,
    RouterView,
    TaskHistory,
    build_report,
)
from expertbank.records import (
    EvaluationRecord,
    ExpertRecord,
    ProgressCallback,
    ProgressEvent,
    RouterRecord,
    Row,
    no_progress,
)
from expertbank.tasks import TaskSpec, encode_rows, find_rows
from expertbank.workflows.workspace import Workspace

if TYPE_CHECKING:
    from expertbank.workflows.measure import Answers

MARGIN_TOLERANCE = 1e-3
"""In another environment a label may differ where the two highest logits are this close."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What running one expert's rows again found.

    Attributes:
        rows: rows run again.
        unverifiable: rows whose source is gone.
        correct: rows right now, over all evaluation rows; ``None`` unless all were run.
        max_logit_difference: largest difference from the stored logits.
        same_environment: whether threads, device and packages are those of the first run.
        within_tolerance: digests of rows whose label differs, but within the tolerance.
    """

    rows: int
    unverifiable: int
    correct: int | None
    max_logit_difference: float
    same_environment: bool
    within_tolerance: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "rows": self.rows,
            "unverifiable": self.unverifiable,
            "max_logit_difference": self.max_logit_difference,
            "same_environment": self.same_environment,
            "within_tolerance": list(self.within_tolerance),
        }


def forgetting_report(
    workspace: Workspace, *, verify: bool = False, progress: ProgressCallback = no_progress
) -> ForgettingReport:
    """Report on the active router; without a router, on the experts alone.

    Args:
        workspace: the open bank.
        verify: run the evaluation rows through the real model again.
        progress: told as verification goes on.

    Raises:
        NotFoundError: the bank has no expert yet.
        IntegrityError: stored evidence is damaged, the backbone is another one, or, with
            ``verify``, a row's answer differs; the message names the first such row.
    """
    registry = workspace.registry
    router = _active_router(workspace)
    names = sorted(router.members) if router else [e.id for e in registry.members()]
    if not names:
        raise NotFoundError("the bank has no expert yet; first run: expertbank add --task T")
    experts = [registry.expert(name) for name in names]
    if verify:
        _check_backbone(workspace)
    routers = [r for r in registry.routers() if router is not None and r.version <= router.version]
    verified: dict[str, Verified] = {}
    histories = []
    for expert in experts:
        (stored,) = registry.evaluations(expert.id, router_version="oracle")
        oracle = OracleEvidence.from_bytes(
            workspace.store.get(stored.artifact_digest), f"answers of {expert.id}"
        )
        identical = _rehash(workspace, expert)
        views = tuple(_views(workspace, expert, routers))
        if verify and identical:
            verified[expert.task] = _verify(workspace, expert, stored, oracle, views, progress)
        found = verified.get(expert.task)
        histories.append(
            TaskHistory(
                expert.task,
                expert.id,
                stored.n,
                stored.correct,
                identical,
                oracle,
                views,
                found.correct if found else None,
            )
        )
    return build_report(
        histories,
        router=router.version if router else None,
        verification={task: v.to_dict() for task, v in verified.items()} if verify else None,
    )


def _active_router(workspace: Workspace) -> RouterRecord | None:
    try:
        return workspace.registry.router()
    except NotFoundError:
        return None


def _rehash(workspace: Workspace, expert: ExpertRecord) -> bool:
    try:
        workspace.store.get(expert.digest)
    except IntegrityError:
        return False
    return True


def _views(
    workspace: Workspace, expert: ExpertRecord, routers: Sequence[RouterRecord]
) -> list[RouterView]:
    by_version = {router.version: router for router in routers}
    views = []
    for record in workspace.registry.evaluations(expert.id, router_version="routed"):
        router = by_version.get(record.router_version or 0)
        if router is not None:
            evidence = RoutedEvidence.from_bytes(
                workspace.store.get(record.artifact_digest), f"choices of router@{router.version}"
            )
            tasks = tuple(member.partition("@")[0] for member in router.members)
            views.append(RouterView(router.version, tasks, evidence))
    return sorted(views, key=lambda view: view.version)


# -- verification ------------------------------------------------------------------------------


def _check_backbone(workspace: Workspace) -> None:
    """Hash the backbone's weights again, whatever the cache says."""
    from expertbank.workflows.workspace import require_backbone

    record = workspace.backbone_record
    loaded = workspace.load_backbone(
        workspace.reference or record.reference, record.feature_spec.dtype, trust_cache=False
    )
    require_backbone(loaded, record.digest, f"the bank at {workspace.home}")


def _verify(
    workspace: Workspace,
    expert: ExpertRecord,
    stored: EvaluationRecord,
    oracle: OracleEvidence,
    views: Sequence[RouterView],
    progress: ProgressCallback,
) -> Verified:
    from expertbank.workflows.measure import answers

    rows = _rows_again(workspace, expert, oracle, progress)
    places = [place for place, row in enumerate(rows) if row is not None]
    same = _same_environment(workspace, stored)
    if not places:
        return Verified(0, len(rows), None, 0.0, same, ())
    encoded = encode_rows(
        [row for row in rows if row is not None],
        workspace.backbone.tokenizer,
        expert.kind,
        expert.labels,
        workspace.spec.max_length,
    )
    again = answers(workspace.model, encoded, expert.id, progress)
    tolerated = _compare_answers(expert, oracle, again, rows, places, exact=same)
    if views and len(places) == len(rows):
        _compare_choices(workspace, expert, views[-1], again, rows, exact=same)
    logits = again.logits.numpy()
    complete = len(places) == len(rows)
    return Verified(
        len(places),
        len(rows) - len(places),
        int((logits.argmax(1) == oracle.targets).sum()) if complete else None,
        float(abs(logits - oracle.logits[places]).max()),
        same,
        tuple(tolerated),
    )


def _rows_again(
    workspace: Workspace, expert: ExpertRecord, oracle: OracleEvidence, progress: ProgressCallback
) -> list[Row | None]:
    """The evaluation rows read from their source again; ``None`` where a row is gone."""
    progress(ProgressEvent(f"reading the rows of {expert.id} again", 0, 1))
    assert expert.run_id is not None
    source = str(workspace.registry.run(expert.run_id).data["source"])
    spec = TaskSpec.from_dict(workspace.registry.task(expert.task).spec, expert.task)
    try:
        found = find_rows(spec, source, oracle.row_digests)
    except ExpertBankError:
        found = {}  # the source is gone or no longer readable: its rows count as unverifiable
    return [found.get(digest) for digest in oracle.row_digests]


def _same_environment(workspace: Workspace, stored: EvaluationRecord) -> bool:
    before = {key: value for key, value in stored.environment.items() if key != "batch_plan"}
    return before == workspace.environment()


def _compare_answers(
    expert: ExpertRecord,
    oracle: OracleEvidence,
    again: Answers,
    rows: Sequence[Row | None],
    places: Sequence[int],
    *,
    exact: bool,
) -> list[str]:
    """Digests of tolerated differences.

    Raises:
        IntegrityError: the first row whose label differs beyond what is tolerated.
    """
    tolerated = []
    predicted = again.logits.argmax(1).tolist()
    complete = len(places) == len(rows)
    for index, place in enumerate(places):
        before, now = int(oracle.predicted[place]), int(predicted[index])
        if before == now:
            continue
        top = sorted(oracle.logits[place].tolist(), reverse=True)
        # Other batches, threads or versions move the last bits of a sum; see the report's help.
        if not (exact and complete) and top[0] - top[1] < MARGIN_TOLERANCE:
            tolerated.append(oracle.row_digests[place])
            continue
        raise IntegrityError(
            f"{_where(rows[place], oracle.row_digests[place])}: {expert.id} answered "
            f"{expert.labels[before]!r} when it was added and answers {expert.labels[now]!r} now"
        )
    return tolerated


def _compare_choices(
    workspace: Workspace,
    expert: ExpertRecord,
    view: RouterView,
    again: Answers,
    rows: Sequence[Row | None],
    *,
    exact: bool,
) -> None:
    router = workspace.router(workspace.registry.router(view.version))
    choice = router.route(again.features, [expert.kind == "multiple_choice"] * len(rows))
    scores = router.scores(again.features).topk(min(2, len(router.members)), dim=1).values
    for place, row in enumerate(rows):
        before, now = int(view.evidence.choice[place]), int(choice.index[place])
        close = len(router.members) > 1 and float(scores[place, 0] - scores[place, 1]) < 1e-3
        if before != now and (exact or not close):
            raise IntegrityError(
                f"{_where(row, row.digest if row else '')}: router@{view.version} chose "
                f"{view.tasks[before]!r} when it was fitted and chooses {view.tasks[now]!r} now"
            )


def _where(row: Row | None, digest: str) -> str:
    return f"{row.origin if row and row.origin else 'row'} (row digest {digest[:12]}…)"
