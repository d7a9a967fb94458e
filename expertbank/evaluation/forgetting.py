"""The forgetting report: from stored evidence to the figures, with nothing run again.

A row is right in routed mode only if the router chose an expert of the row's own task and that
expert's answer is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from expertbank.errors import IntegrityError
from expertbank.evaluation import metrics
from expertbank.evaluation.evidence import OracleEvidence, RoutedEvidence
from expertbank.evaluation.scores import pearson, quality


@dataclass(frozen=True, slots=True)
class RouterView:
    """One router's evidence on one task's rows.

    Attributes:
        version: the router's version.
        columns: what the router chooses among, by position: the names of the tasks that answer
            together, one name unless they are a group.
        evidence: what it chose.
    """

    version: int
    columns: tuple[tuple[str, ...], ...]
    evidence: RoutedEvidence

    def chose(self, task: str) -> npt.NDArray[np.bool_]:
        """``[rows]`` whether the row went to ``task`` or its group."""
        own = np.array([task in column for column in self.columns])
        return np.asarray(own[self.evidence.choice])

    def quality(self, task: str, oracle: OracleEvidence) -> float | None:
        """Routed accuracy; for regression Pearson's correlation.

        A misrouted row is wrong; a misrouted regression row has no value, so it is given the
        mean of all answered ones.
        """
        chosen = self.chose(task)
        if not oracle.is_value:
            return float((chosen & oracle.right).mean())
        values = np.where(chosen, oracle.values, oracle.values.mean())
        return pearson(values, oracle.targets)

    def flips(self, other: RouterView) -> int:
        """Rows that were sent elsewhere by the other router."""
        ours = [self.columns[column] for column in self.evidence.choice]
        theirs = [other.columns[column] for column in other.evidence.choice]
        return sum(not set(a) & set(b) for a, b in zip(ours, theirs, strict=True))


@dataclass(frozen=True, slots=True)
class TaskHistory:
    """Everything stored about one expert's evaluation rows.

    Attributes:
        task: the task's name.
        expert_id: ``task@version``.
        n: evaluation rows.
        quality_at_add: accuracy (regression: Pearson) of the named expert when it was added.
        weights_identical: whether its file still hashes to its digest, rehashed in this run.
        oracle: its stored answers.
        views: every router that contains the expert, in version order, up to the one reported.
        measured: the same now, where the rows were run again.
    """

    task: str
    expert_id: str
    n: int
    quality_at_add: float | None
    weights_identical: bool
    oracle: OracleEvidence
    views: tuple[RouterView, ...]
    measured: float | None = None


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One line of the report; fractions are 0 to 1, ``None`` where there is no router yet."""

    task: str
    expert: str
    metric: Literal["accuracy", "pearson"]
    n: int
    at_add: float | None
    oracle: float | None
    oracle_source: Literal["stored", "measured"]
    routed_at_add: float | None
    routed: float | None
    difference: float | None
    flip_rate: float | None
    verdict_expert: Literal["identical", "changed"]
    verdict_routed: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The machine contract's form."""
        return {
            "task": self.task,
            "expert": self.expert,
            "metric": self.metric,
            "n": self.n,
            "at_add": self.at_add,
            "oracle": self.oracle,
            "oracle_source": self.oracle_source,
            "routed_at_add": self.routed_at_add,
            "routed": self.routed,
            "difference": self.difference,
            "flip_rate": self.flip_rate,
            "verdict": {"expert": self.verdict_expert, "routed": self.verdict_routed},
        }


@dataclass(frozen=True, slots=True)
class ForgettingReport:
    """The whole report.

    Attributes:
        router: version reported on, ``None`` before the first router.
        routers: versions of the matrix rows.
        tasks: one line a task, in the matrix's column order.
        matrix: ``matrix[i][j]``, routed accuracy of router ``i`` on task ``j``; ``None`` before
            the router knew the task, and for regression tasks, which are listed, not averaged.
        verification: per task what ``--verify`` found, ``None`` without it.
    """

    router: int | None
    routers: tuple[int, ...]
    tasks: tuple[TaskReport, ...]
    matrix: tuple[tuple[float | None, ...], ...]
    verification: Mapping[str, Any] | None = None

    @property
    def weights_unchanged(self) -> bool:
        """Whether every expert's file still has its digest."""
        return all(task.verdict_expert == "identical" for task in self.tasks)

    @property
    def routing_regret(self) -> float | None:
        """Mean over tasks of oracle minus routed accuracy; regression tasks are left out."""
        return metrics.mean(
            [
                task.oracle - task.routed
                for task in self.tasks
                if task.metric == "accuracy" and task.oracle is not None and task.routed is not None
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """The machine contract's form."""
        return {
            "router": self.router,
            "tasks": [task.to_dict() for task in self.tasks],
            "average_accuracy": metrics.average_accuracy(self.matrix),
            "backward_transfer": metrics.backward_transfer(self.matrix),
            "forgetting": metrics.forgetting(self.matrix),
            "routing_regret": self.routing_regret,
            "weights_unchanged": self.weights_unchanged,
            "matrix": [list(row) for row in self.matrix],
            "routers": list(self.routers),
            "verification": self.verification,
        }


def router_columns(
    tasks: Sequence[str], groups: Mapping[str, str | None]
) -> tuple[tuple[str, ...], ...]:
    """What a router over ``tasks`` chooses among: groups as one, in order of first appearance."""
    columns: dict[tuple[str | None, str], list[str]] = {}
    for task in tasks:
        group = groups.get(task)
        columns.setdefault((group, "") if group else (None, task), []).append(task)
    return tuple(tuple(column) for column in columns.values())


def build_report(
    histories: Sequence[TaskHistory],
    *,
    router: int | None,
    verification: Mapping[str, Any] | None = None,
) -> ForgettingReport:
    """Work out the report from stored evidence.

    Args:
        histories: one per task of the router reported on, in order of appearance.
        router: the version reported on.
        verification: what a verification run found, to pass through.

    Raises:
        IntegrityError: evidence of different length for the same rows.
    """
    for history in histories:
        _check(history)
    routers = tuple(sorted({view.version for h in histories for view in h.views}))
    by_router = [{view.version: view for view in history.views} for history in histories]
    matrix = tuple(
        tuple(
            views[version].quality(history.task, history.oracle)
            if version in views and not history.oracle.is_value
            else None
            for history, views in zip(histories, by_router, strict=True)
        )
        for version in routers
    )
    lines = tuple(_line(history, router) for history in histories)
    return ForgettingReport(router, routers, lines, matrix, verification)


def _line(history: TaskHistory, router: int | None) -> TaskReport:
    now = next((view for view in history.views if view.version == router), None)
    first = history.views[0] if history.views else None
    routed_at_add = first.quality(history.task, history.oracle) if first else None
    routed = now.quality(history.task, history.oracle) if now else None
    change = None if routed is None or routed_at_add is None else routed - routed_at_add
    return TaskReport(
        task=history.task,
        expert=history.expert_id,
        metric="pearson" if history.oracle.is_value else "accuracy",
        n=history.n,
        at_add=history.quality_at_add,
        oracle=history.quality_at_add if history.measured is None else history.measured,
        oracle_source="stored" if history.measured is None else "measured",
        routed_at_add=routed_at_add,
        routed=routed,
        difference=change,
        flip_rate=now.flips(first) / history.n if now and first else None,
        verdict_expert="identical" if history.weights_identical else "changed",
    )


def _check(history: TaskHistory) -> None:
    lengths = {len(history.oracle.targets), *(len(v.evidence.choice) for v in history.views)}
    if lengths != {history.n}:
        raise IntegrityError(
            f"{history.expert_id}: stored evidence covers {sorted(lengths)} rows, "
            f"the registry says {history.n}"
        )
    for view in history.views:
        choice = view.evidence.choice
        if not bool(((choice >= 0) & (choice < len(view.columns))).all()):
            raise IntegrityError(
                f"{history.expert_id}: the evidence of router {view.version} names a member "
                f"that its list of {len(view.columns)} does not have"
            )
    recounted = quality(history.oracle)
    if recounted != history.quality_at_add:
        raise IntegrityError(
            f"{history.expert_id}: the stored answers give {recounted}, "
            f"the registry says {history.quality_at_add}"
        )
