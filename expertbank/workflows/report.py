"""``forgetting-report``: rehash every expert, read stored evidence, optionally run rows again."""

from __future__ import annotations

from collections.abc import Sequence

from expertbank.errors import IntegrityError, NotFoundError
from expertbank.evaluation.evidence import OracleEvidence, RoutedEvidence
from expertbank.evaluation.forgetting import (
    ForgettingReport,
    RouterView,
    TaskHistory,
    build_report,
    router_columns,
)
from expertbank.records import (
    ExpertRecord,
    ProgressCallback,
    RouterRecord,
    no_progress,
)
from expertbank.workflows.rerouting import views_from_source
from expertbank.workflows.verification import Verified, verify_expert
from expertbank.workflows.workspace import Workspace


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
    experts = _experts(workspace, router)
    if not experts:
        raise NotFoundError("the bank has no expert yet; first run: expertbank add --task T")
    if verify:
        workspace.recheck_backbone()
    routers = [r for r in registry.routers() if router is not None and r.version <= router.version]
    verified: dict[str, Verified] = {}
    histories = []
    for expert in experts:
        (stored,) = registry.evaluations(expert.id, router_version="oracle")
        oracle = OracleEvidence.from_bytes(
            workspace.store.get(stored.artifact_digest), f"answers of {expert.id}"
        )
        identical = _rehash(workspace, expert)
        if workspace.spec.keep == "stats":
            views = views_from_source(workspace, expert, oracle, routers, progress)
        else:
            views = tuple(_views(workspace, expert, routers))
        if verify and identical:
            verified[expert.task] = verify_expert(
                workspace, expert, stored, oracle, views, progress
            )
        found = verified.get(expert.task)
        histories.append(
            TaskHistory(
                expert.task,
                expert.id,
                stored.n,
                stored.metrics.get("pearson" if oracle.is_value else "accuracy"),
                identical,
                oracle,
                views,
                found.quality if found else None,
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


def _views(
    workspace: Workspace, expert: ExpertRecord, routers: Sequence[RouterRecord]
) -> list[RouterView]:
    by_version = {router.version: router for router in routers}
    groups = {t.name: t.group for t in workspace.registry.tasks(include_removed=True)}
    views = []
    for record in workspace.registry.evaluations(expert.id, router_version="routed"):
        router = by_version.get(record.router_version or 0)
        if router is not None:
            evidence = RoutedEvidence.from_bytes(
                workspace.store.get(record.artifact_digest), f"choices of router@{router.version}"
            )
            tasks = [member.partition("@")[0] for member in router.members]
            columns = router_columns(tasks, groups)
            views.append(RouterView(router.version, columns, evidence))
    return sorted(views, key=lambda view: view.version)
