"""The forgetting report: from stored evidence to the figures, with nothing run again.

A row is right in routed mode only if the router chose an expert of the row's own task and that
expert's answer is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from expertbank.errors import IntegrityError
from expertbank.evaluation import metrics
from expertbank.evaluation.evidence import OracleEvidence, RoutedEvidence


@dataclass(frozen=True, slots=True)
class RouterView:
    """One router's evidence on one task's rows.

    Attributes:
        version: the router's version.
        tasks: the router's members by position, as task names.
        evidence: what it chose.
    """

    version: int
    tasks: tuple[str, ...]
    evidence: RoutedEvidence

    def right(self, task: str, oracle: OracleEvidence) -> int:
        """Rows that were routed to ``task`` and answered rightly."""
        return int((self._chose(task) & oracle.right).sum())

    def flips(self, other: RouterView) -> int:
        """Rows whose chosen task differs between two routers."""
        ours, theirs = np.array(self.tasks), np.array(other.tasks)
        return int((ours[self.evidence.choice] != theirs[other.evidence.choice]).sum())

    def _chose(self, task: str) -> Any:
        return np.array(self.tasks)[self.evidence.choice] == task


@dataclass(frozen=True, slots=True)
class TaskHistory:
    """Everything stored about one expert's evaluation rows.

    Attributes:
        task: the task's name.
        expert_id: ``task@version``.
        n: evaluation rows.
        correct_at_add: rows the named expert had right when it was added.
        weights_identical: whether its file still hashes to its digest, rehashed in this run.
        oracle: its stored answers.
        views: every router that contains the expert, in version order, up to the one reported.
        measured_correct: rows the named expert has right now, where they were run again.
    """

    task: str
    expert_id: str
    n: int
    correct_at_add: int
    weights_identical: bool
    oracle: OracleEvidence
    views: tuple[RouterView, ...]
    measured_correct: int | None = None


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One line of the report; fractions are 0 to 1, ``None`` where there is no router yet."""

    task: str
    expert: str
    n: int
    at_add: float
    oracle: float
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
        matrix: ``matrix[i][j]``, routed accuracy of router ``i`` on task ``j``.
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
        """Mean over tasks of oracle minus routed accuracy."""
        return metrics.mean(
            [task.oracle - task.routed for task in self.tasks if task.routed is not None]
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
            views[version].right(history.task, history.oracle) / history.n
            if version in views
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
    at_add = history.correct_at_add / history.n
    measured = history.measured_correct
    routed_at_add = first.right(history.task, history.oracle) / history.n if first else None
    routed = now.right(history.task, history.oracle) / history.n if now else None
    change = None if routed is None or routed_at_add is None else routed - routed_at_add
    return TaskReport(
        task=history.task,
        expert=history.expert_id,
        n=history.n,
        at_add=at_add,
        oracle=at_add if measured is None else measured / history.n,
        oracle_source="stored" if measured is None else "measured",
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
        if not bool(((choice >= 0) & (choice < len(view.tasks))).all()):
            raise IntegrityError(
                f"{history.expert_id}: the evidence of router {view.version} names a member "
                f"that its list of {len(view.tasks)} does not have"
            )
    if int(history.oracle.right.sum()) != history.correct_at_add:
        raise IntegrityError(
            f"{history.expert_id}: the stored answers give {int(history.oracle.right.sum())} "
            f"right rows, the registry says {history.correct_at_add}"
        )
