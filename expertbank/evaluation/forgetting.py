"""The forgetting report: from stored evidence to the figures, with nothing run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from expertbank.errors import IntegrityError
from expertbank.evaluation import metrics
from expertbank.evaluation.history import (
    Earlier,
    RouterView,
    TaskHistory,
    router_columns,
)
from expertbank.evaluation.lineage import Lineage
from expertbank.evaluation.verdicts import (
    DEFAULT_MARGIN,
    Change,
    Judged,
    Verdict,
    judge,
    measure,
    worst,
)

__all__ = [
    "Confusion",
    "Earlier",
    "ForgettingReport",
    "RouterView",
    "TaskHistory",
    "TaskReport",
    "build_report",
    "router_columns",
]


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One line of the report; fractions are 0 to 1.

    Attributes:
        task: the task's name.
        expert: ``task@version``.
        metric: what ``at_add`` and its neighbours measure.
        n: evaluation rows.
        at_add: quality of the named expert when it was added.
        oracle: the same now.
        oracle_source: whether ``oracle`` was run again in this report.
        start: version of the router that the comparison starts from; ``None`` where the task
            was in none.
        routed_at_add: quality under that router (unless one was named, the task's first).
        routed: quality under the router reported on; ``None`` where it does not know the task.
        routed_unmasked: the same under a gate of the same kind that was fitted with every expert
            a candidate for every row; ``None`` where no choices of such a gate are kept.
        verdict_expert: whether the expert's stored bytes are still those of its digest.
        verdict_routed: see ``evaluation.verdicts``; ``None`` where there is nothing to compare.
        change: the statistics of the comparison.
        judged: its p-values corrected over all tasks.
    """

    task: str
    expert: str
    metric: str
    n: int
    at_add: float | None
    oracle: float | None
    oracle_source: Literal["stored", "measured"]
    start: int | None
    routed_at_add: float | None
    routed: float | None
    verdict_expert: Literal["identical", "changed"]
    routed_unmasked: float | None = None
    verdict_routed: Verdict | None = None
    change: Change | None = None
    judged: Judged | None = None

    @property
    def difference(self) -> float | None:
        """Routed quality now minus that under the router started from."""
        if self.routed is None or self.routed_at_add is None:
            return None
        return self.routed - self.routed_at_add

    @property
    def flip_rate(self) -> float | None:
        """Share of rows whose choice changed; no accuracy can have changed by more."""
        return None if self.change is None else metrics.flip_rate(self.change.flips, self.change.n)

    def to_dict(self) -> dict[str, Any]:
        """The machine contract's form."""
        change, judged = self.change, self.judged
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
            "routed_unmasked": self.routed_unmasked,
            "difference": self.difference,
            "flip_rate": self.flip_rate,
            "verdict": {"expert": self.verdict_expert, "routed": self.verdict_routed},
            "from": self.start,
            "compared": change.n if change else 0,
            "flips": change.flips if change else None,
            "losses": change.losses if change else None,
            "gains": change.gains if change else None,
            "interval": list(change.interval) if change and change.interval else None,
            "margin_provable": change.margin_provable if change else None,
            "margin_possible": change.margin_possible if change else None,
            "p_mcnemar": change.p_mcnemar if change else None,
            "p_noninferiority": change.p_noninferiority if change else None,
            "p_noninferiority_adjusted": judged.p_noninferiority_adjusted if judged else None,
            "p_loss": change.p_loss if change else None,
            "p_loss_adjusted": judged.p_loss_adjusted if judged else None,
            "method": change.method if change else None,
            "clustered": bool(change and change.clusters is not None),
            "clusters": change.clusters if change else None,
        }


@dataclass(frozen=True, slots=True)
class Confusion:
    """Where the router reported on sent every task's evaluation rows.

    Attributes:
        tasks: the rows of ``counts``.
        columns: what the router chooses among: a task, or the tasks of a group joined by `` + ``.
        counts: evaluation rows of each task sent to each column.
    """

    tasks: tuple[str, ...]
    columns: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "tasks": list(self.tasks),
            "columns": list(self.columns),
            "counts": [list(row) for row in self.counts],
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
        margin: the loss that the verdicts allow.
        start: the router compared with; ``None`` for each task's first.
        confusion: where rows were sent, ``None`` before the first router.
        lineage: what the figures rest on, where the caller gave it.
        verification: per task what ``--verify`` found, ``None`` without it.
    """

    router: int | None
    routers: tuple[int, ...]
    tasks: tuple[TaskReport, ...]
    matrix: tuple[tuple[float | None, ...], ...]
    margin: float = DEFAULT_MARGIN
    start: int | None = None
    confusion: Confusion | None = None
    lineage: Lineage | None = None
    verification: Mapping[str, Any] | None = None

    @property
    def weights_unchanged(self) -> bool:
        """Whether every expert's file still has its digest."""
        return all(task.verdict_expert == "identical" for task in self.tasks)

    @property
    def verdict(self) -> Verdict | None:
        """The worst verdict of all tasks; ``None`` where nothing was compared."""
        return worst([task.verdict_routed for task in self.tasks])

    @property
    def routing_regret(self) -> float | None:
        """Mean over tasks of oracle minus routed accuracy; regression tasks are left out."""
        return metrics.routing_regret(
            [(task.oracle, task.routed) for task in self.tasks if task.metric == "accuracy"]
        )

    @property
    def average_accuracy(self) -> float | None:
        """Mean accuracy over the tasks of the router reported on."""
        return metrics.average_accuracy(self.matrix)

    @property
    def average_accuracy_unmasked(self) -> float | None:
        """``average_accuracy`` of a gate fitted with every expert a candidate for every row.

        ``None`` unless it is known of every task that ``average_accuracy`` counts.
        """
        counted = [t for t in self.tasks if t.metric == "accuracy" and t.routed is not None]
        known = [t.routed_unmasked for t in counted if t.routed_unmasked is not None]
        return metrics.mean(known) if len(known) == len(counted) else None

    @property
    def backward_transfer(self) -> float | None:
        """Mean change since each task's first router."""
        return metrics.backward_transfer(self.matrix)

    @property
    def forgetting(self) -> float | None:
        """Mean of each task's best earlier accuracy minus its accuracy now."""
        return metrics.forgetting(self.matrix)

    def named(self, verdict: Verdict) -> tuple[str, ...]:
        """The tasks with this verdict."""
        return tuple(task.task for task in self.tasks if task.verdict_routed == verdict)

    def to_dict(self) -> dict[str, Any]:
        """The machine contract's form."""
        return {
            "router": self.router,
            "from": self.start,
            "to": self.router,
            "margin": self.margin,
            "verdict": {
                "expert": "identical" if self.weights_unchanged else "changed",
                "routed": self.verdict,
            },
            "tasks": [task.to_dict() for task in self.tasks],
            "average_accuracy": self.average_accuracy,
            "average_accuracy_unmasked": self.average_accuracy_unmasked,
            "backward_transfer": self.backward_transfer,
            "forgetting": self.forgetting,
            "routing_regret": self.routing_regret,
            "weights_unchanged": self.weights_unchanged,
            "matrix": [list(row) for row in self.matrix],
            "routers": list(self.routers),
            "confusion": self.confusion.to_dict() if self.confusion else None,
            "lineage": self.lineage.to_dict() if self.lineage else None,
            "verification": self.verification,
        }


def build_report(
    histories: Sequence[TaskHistory],
    *,
    router: int | None,
    start: int | None = None,
    margin: float = DEFAULT_MARGIN,
    lineage: Lineage | None = None,
    verification: Mapping[str, Any] | None = None,
) -> ForgettingReport:
    """Work out the report from stored evidence.

    Args:
        histories: one per task of the report, in order of appearance.
        router: the version reported on.
        start: the version compared with, where one was named: then each history's ``earlier``
            is what counts, otherwise its first view.
        margin: the loss that the verdicts allow.
        lineage: what the figures rest on, to pass through.
        verification: what a verification run found, to pass through.

    Raises:
        IntegrityError: evidence of different length for the same rows.
    """
    for history in histories:
        _check(history)
    routers = tuple(sorted({view.version for h in histories for view in h.views}))
    matrix = tuple(
        tuple(
            view.quality(history.task, history.oracle)
            if (view := history.view(version)) and history.oracle.outcome.averaged
            else None
            for history in histories
        )
        for version in routers
    )
    begins = [h.first() if start is None else h.earlier for h in histories]
    pairs = [
        history.pairs(earlier, now) if earlier and (now := history.view(router)) else None
        for history, earlier in zip(histories, begins, strict=True)
    ]
    changes = [None if pair is None else measure(pair, margin) for pair in pairs]
    judged = iter(judge([change for change in changes if change is not None]))
    lines = tuple(
        _line(history, router, earlier, change, next(judged) if change else None)
        for history, earlier, change in zip(histories, begins, changes, strict=True)
    )
    return ForgettingReport(
        router,
        routers,
        lines,
        matrix,
        margin,
        start,
        _confusion(histories, router),
        lineage,
        verification,
    )


def _line(
    history: TaskHistory,
    router: int | None,
    earlier: Earlier | None,
    change: Change | None,
    judged: Judged | None,
) -> TaskReport:
    now = history.view(router)
    verdict = judged.verdict if judged else None
    if earlier and router is not None and now is None:
        verdict = "lost"  # it was served, and the router reported on sends no row to it
    return TaskReport(
        task=history.task,
        expert=history.expert_id,
        metric=history.oracle.outcome.metric,
        n=history.n,
        at_add=history.quality_at_add,
        oracle=history.quality_at_add if history.measured is None else history.measured,
        oracle_source="stored" if history.measured is None else "measured",
        start=earlier.view.version if earlier else None,
        routed_at_add=earlier.view.quality(history.task, earlier.oracle) if earlier else None,
        routed=now.quality(history.task, history.oracle) if now else None,
        verdict_expert="identical" if history.weights_identical else "changed",
        verdict_routed=verdict,
        change=change,
        judged=judged,
    )


def _confusion(histories: Sequence[TaskHistory], router: int | None) -> Confusion | None:
    known = [(history.task, view) for history in histories if (view := history.view(router))]
    if not known:
        return None
    columns = known[0][1].columns
    # In the order of the tasks, so that what went right stands on the diagonal.
    order = [task for task, _ in known]
    places = sorted(
        range(len(columns)),
        key=lambda place: min(
            (order.index(task) for task in columns[place] if task in order), default=len(order)
        ),
    )
    return Confusion(
        tuple(order),
        tuple(" + ".join(columns[place]) for place in places),
        tuple(tuple(np.array(view.counts())[places].tolist()) for _, view in known),
    )


def _check(history: TaskHistory) -> None:
    lengths = {history.oracle.outcome.n, *(len(v.evidence.choice) for v in history.views)}
    if lengths != {history.n}:
        raise IntegrityError(
            f"{history.expert_id}: stored evidence covers {sorted(lengths)} rows, "
            f"the registry says {history.n}"
        )
    for view in history.views:
        check_choices(history.expert_id, view)
    recounted = history.oracle.outcome.quality()
    if recounted != history.quality_at_add:
        raise IntegrityError(
            f"{history.expert_id}: the stored answers give {recounted}, "
            f"the registry says {history.quality_at_add}"
        )


def check_choices(expert_id: str, view: RouterView) -> None:
    """Refuse evidence that names members its router does not have.

    Raises:
        IntegrityError: it does.
    """
    choice = view.evidence.choice
    if not bool(((choice >= 0) & (choice < len(view.columns))).all()):
        raise IntegrityError(
            f"{expert_id}: the evidence of router {view.version} names a member "
            f"that its list of {len(view.columns)} does not have"
        )
