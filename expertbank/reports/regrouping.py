"""What a report says where tasks were grouped otherwise under the routers that it compares."""

from __future__ import annotations

from collections.abc import Sequence

from expertbank.reports.figures import share
from expertbank.reports.findings import Findings, TaskReport
from expertbank.wording import listing

SHOWN = 8
"""Tasks or routers that a sentence names; of more it tells the number."""


def regrouping(report: Findings) -> tuple[str, ...]:
    """In sentences what changed, how it is counted, and what cannot be told; empty without."""
    moved = [task for task in report.tasks if task.regrouped is not None]
    said = [_together(report.router, now, moved) for now in _kinds(moved)]
    counted = [task for task in moved if task.regrouped and task.regrouped.counted]
    mixed = [task.task for task in moved if task.regrouped and not task.regrouped.counted]
    if counted:
        said.append(_counted(counted))
    if mixed:
        they = _named(mixed)
        said.append(
            f"{they}: the earlier router sent rows to tasks that answered together then and do not "
            "now, and did not say which of them it meant. Its choices cannot be counted by the "
            "present groups and are counted as they were answered then: change, churn and verdict "
            "show what the grouping did together with what the router did. To see what a router "
            "did alone, compare two of the same groups with --from and --to."
        )
    rows = zip(report.routers, report.matrix, report.as_served, strict=False)
    recounted = [version for version, row, served in rows if row != served]
    if recounted:
        said.append(
            f"The matrix counts {_routers(recounted)} by the present groups, not by their own; "
            "matrix_as_served in the JSON document has what was answered then."
        )
    if report.uncounted:
        said.append(
            f"In the matrix some choices of {_routers(report.uncounted)} cannot be counted by the "
            "present groups and are counted as they were answered then, so that matrix, backward "
            "transfer and forgetting show what the grouping did too."
        )
    return tuple(said)


def _routers(versions: Sequence[int]) -> str:
    return _named([f"router@{version}" for version in versions])


def _kinds(moved: Sequence[TaskReport]) -> list[tuple[str, ...]]:
    """The groups of now that tasks came into, a task alone being one."""
    return sorted({task.regrouped.now for task in moved if task.regrouped is not None})


def _together(router: int | None, now: tuple[str, ...], moved: Sequence[TaskReport]) -> str:
    befores = sorted({t.regrouped.before for t in moved if t.regrouped and t.regrouped.now == now})
    alone = [before[0] for before in befores if len(before) == 1]
    parts = [f"{_named(alone)} {'each ' if len(alone) > 1 else ''}answered alone"] if alone else []
    parts += [f"{_named(before)} answered together" for before in befores if len(before) > 1]
    verb = "answer together" if len(now) > 1 else "answers alone"
    return f"Regrouped: under router@{router} {_named(now)} {verb}; before, {'; '.join(parts)}."


def _counted(tasks: Sequence[TaskReport]) -> str:
    figures = [
        f"{task.task} from {share(task.routed_at_add)} to {share(task.routed_before)}"
        for task in tasks
    ]
    return (
        f"Earlier choices of {_named([task.task for task in tasks])} are counted by the present "
        "groups, so that change, churn, verdict and matrix show what the router did and not the "
        f"grouping. What the grouping alone did to routed quality before: {_named(figures)}."
    )


def _named(names: Sequence[str]) -> str:
    return listing(names, SHOWN)
