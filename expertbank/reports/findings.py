"""What a forgetting report rests on: one line a task, where rows were sent, the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from expertbank.config import DEFAULT_MARGIN
from expertbank.evaluation import metrics
from expertbank.evaluation.lineage import Lineage
from expertbank.evaluation.verdicts import (
    ALPHA,
    Change,
    Judged,
    Verdict,
    worst,
)
from expertbank.reports.bank_map import BankMap

MISROUTED = 0.1
"""What a router may cost a task before the report's first sentence says so."""
State = Verdict | Literal["changed"]


@dataclass(frozen=True, slots=True)
class Regrouped:
    """A task that answers together with other tasks than under the router compared with.

    Attributes:
        before: the tasks that answered together with it then, itself among them; only tasks that
            both routers know.
        now: the same under the router reported on.
        counted: whether the earlier choices could be counted by the present grouping. Where not
            they are counted as they were then, and change, churn and verdict hold what the change
            of grouping did together with what the router did.
    """

    before: tuple[str, ...]
    now: tuple[str, ...]
    counted: bool


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One line of the report; fractions are 0 to 1.

    Attributes:
        task: the task's name.
        expert: ``task@version``.
        metric: what ``at_add`` and its neighbours measure.
        n: evaluation rows.
        at_add: quality with the task given, when the expert was added.
        oracle: the same now.
        oracle_source: whether ``oracle`` was run again in this report.
        start: version of the router that the comparison starts from; ``None`` where the task
            was in none.
        start_expert: the expert that answered the task under it; perhaps another version.
        routed_at_add: quality under that router (unless one was named, the task's first), counted
            by its own grouping, as it was then.
        routed: quality under the router reported on; ``None`` where it does not know the task.
        verdict_expert: whether the expert's stored bytes are still those of its digest.
        verdict_routed: see ``evaluation.verdicts``; ``None`` where there is nothing to compare.
        change: the statistics of the comparison.
        judged: its p-values corrected over all tasks.
        majority: share of the most frequent answer: what always giving it would reach. ``None``
            where no answer is right or wrong, and in banks that did not store it.
        p_beats_majority: one-sided, against being right no more often than that answer.
        unread: why its rows could not be routed again, in a bank that keeps no choices of rows.
        routed_before: ``routed_at_add`` counted by the grouping of the router reported on: what the
            change is measured from. The same unless tasks were grouped otherwise in between.
        regrouped: how the task's grouping differs between the two routers, if it does.
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
    verdict_routed: Verdict | None = None
    change: Change | None = None
    judged: Judged | None = None
    majority: float | None = None
    p_beats_majority: float | None = None
    unread: str | None = None
    routed_before: float | None = None
    regrouped: Regrouped | None = None
    start_expert: str | None = None

    @property
    def beats_majority(self) -> bool | None:
        """Whether it is shown at 5% that the expert beats its majority class."""
        return None if self.p_beats_majority is None else self.p_beats_majority <= ALPHA

    @property
    def state(self) -> State | None:
        """The verdict on the task, or that its expert is not the one that was measured."""
        return "changed" if self.verdict_expert == "changed" else self.verdict_routed

    @property
    def difference(self) -> float | None:
        """Routed quality now minus that under the router started from, counted alike.

        Of another version's rows only those count that this one was measured on too.
        """
        if self.routed is None or self.routed_before is None:
            return None
        if self.is_new_expert:
            return None if self.change is None else self.change.change
        return self.routed - self.routed_before

    @property
    def is_new_expert(self) -> bool:
        """Whether another version answered the task under the router started from."""
        return self.start_expert not in {None, self.expert}

    @property
    def regret(self) -> float | None:
        """What the router costs the task: quality with the task given, now, minus that routed."""
        if self.oracle is None or self.routed is None:
            return None
        return self.oracle - self.routed

    @property
    def flip_rate(self) -> float | None:
        """Prediction churn; no accuracy can have changed by more."""
        return None if self.change is None else metrics.flip_rate(self.change.flips, self.change.n)


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


@dataclass(frozen=True, slots=True)
class Findings:
    """The whole.

    Attributes:
        router: version reported on, ``None`` before the first router.
        routers: versions of the matrix rows.
        tasks: one line a task, in the matrix's column order.
        matrix: ``matrix[i][j]``, routed accuracy of router ``i`` on task ``j``; ``None`` before
            the router knew the task, and for regression tasks, which are listed, not averaged.
            All rows are counted by the grouping of the router reported on, where that can be told.
        margin: the loss that the verdicts allow.
        start: the router compared with; ``None`` for each task's first.
        confusion: where rows were sent, ``None`` before the first router.
        lineage: what the figures rest on, where the caller gave it.
        verification: per task what ``--verify`` found, ``None`` without it.
        begin: as a row of the matrix, each task's accuracy under its first router where that
            was forgotten, else ``None``; of one that knew another version of the expert, accuracy
            now less the change on the rows of both.
        regrouped: versions of routers that were fitted with another grouping than the one reported
            on.
        as_served: the matrix with every router's row counted by its own grouping; the same unless
            some are ``regrouped``.
        uncounted: versions of the matrix of which some rows are counted by their own grouping all
            the same, because by the present one they cannot be.
        bank_map: where the router's tasks lie beside each other, if that was asked for and can be.
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
    begin: tuple[float | None, ...] = ()
    regrouped: tuple[int, ...] = ()
    as_served: tuple[tuple[float | None, ...], ...] = ()
    uncounted: tuple[int, ...] = ()
    bank_map: BankMap | None = None

    @property
    def weights_unchanged(self) -> bool:
        """Whether every expert's file still has its digest."""
        return all(task.verdict_expert == "identical" for task in self.tasks)

    @property
    def verdict(self) -> Verdict | None:
        """The worst verdict of all tasks; ``None`` where nothing was compared."""
        return worst([task.verdict_routed for task in self.tasks])

    @property
    def state(self) -> State | None:
        """The verdict, or that a stored expert is not the one that was measured."""
        return self.verdict if self.weights_unchanged else "changed"

    @property
    def not_above_majority(self) -> tuple[TaskReport, ...]:
        """The tasks whose expert is not shown to beat always giving the most frequent answer."""
        return tuple(task for task in self.tasks if task.beats_majority is False)

    @property
    def misrouted(self) -> tuple[TaskReport, ...]:
        """The tasks that the router costs more than ``MISROUTED``, the worst first."""
        costs = [(task.regret, task) for task in self.tasks if task.regret is not None]
        found = sorted((one for one in costs if one[0] > MISROUTED), key=lambda one: -one[0])
        return tuple(task for _, task in found)

    @property
    def unverifiable(self) -> Mapping[str, str]:
        """Why rows that were to be run again could not be, by the tasks that had such rows."""
        return {
            task: str(found.get("reason"))
            for task, found in (self.verification or {}).items()
            if found["unverifiable"]
        }

    @property
    def rows_run(self) -> int:
        """Rows that were run again for this report, of all tasks."""
        return sum(found["rows"] for found in (self.verification or {}).values())

    @property
    def routing_regret(self) -> float | None:
        """Mean quality with the task given minus that routed, over the tasks of the averages."""
        last = self.matrix[-1] if self.matrix else (None,) * len(self.tasks)
        return metrics.routing_regret(
            [
                (task.oracle, task.routed)
                for task, counted in zip(self.tasks, last, strict=True)
                if counted is not None
            ]
        )

    @property
    def average_accuracy(self) -> float | None:
        """Mean accuracy over the tasks of the router reported on."""
        return metrics.average_accuracy(self.matrix)

    @property
    def backward_transfer(self) -> float | None:
        """Mean change since each task's first router."""
        return metrics.backward_transfer(self._in_time)

    @property
    def forgetting(self) -> float | None:
        """Mean of each task's best earlier accuracy minus its accuracy now."""
        return metrics.forgetting(self._in_time)

    @property
    def _in_time(self) -> metrics.Matrix:
        """The matrix, and before it what is known of tasks whose first router was forgotten."""
        return (self.begin, *self.matrix) if self.begin else self.matrix

    def named(self, verdict: Verdict) -> tuple[str, ...]:
        """The tasks with this verdict."""
        return tuple(task.task for task in self.tasks if task.verdict_routed == verdict)
