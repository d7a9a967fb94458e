"""From stored predictions to the forgetting report, with nothing run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from expertbank.config import DEFAULT_MARGIN
from expertbank.errors import IntegrityError
from expertbank.evaluation.grouping import Grouping
from expertbank.evaluation.history import Earlier, RouterView, TaskHistory
from expertbank.evaluation.lineage import Lineage
from expertbank.evaluation.verdicts import Change, Judged, judge, measure
from expertbank.reports.bank_map import BankMap
from expertbank.reports.findings import Confusion, Regrouped, TaskReport
from expertbank.reports.forgetting import ForgettingReport


class _Counting:
    """By which grouping a router's choices are counted: that of the router reported on.

    Attributes:
        now: the grouping of the router reported on.
        other: versions of routers that were fitted with another one.
    """

    def __init__(self, histories: Sequence[TaskHistory], router: int | None) -> None:
        shown = (view for history in histories if (view := history.view(router)))
        self.now = Grouping.of(next((view.columns for view in shown), ()))
        begins = [history.first() for history in histories]
        views = [view for history in histories for view in history.views]
        views += [begin.view for begin in [*begins, *(h.earlier for h in histories)] if begin]
        # A router's columns are the same for all tasks: looked at once.
        columns = {view.version: view.columns for view in views}
        self.other = {version for version, own in columns.items() if self.now.differs(own)}

    def like(self, view: RouterView) -> Grouping | None:
        """The grouping to count by, where it is not the router's own."""
        return self.now if view.version in self.other else None

    def uncounted(self, histories: Sequence[TaskHistory]) -> tuple[int, ...]:
        """Versions of which some rows can be counted by their own grouping only."""
        found = {
            view.version
            for history in histories
            for view in history.views
            if view.version in self.other and not view.can_tell(history.task, self.now)
        }
        return tuple(sorted(found))

    def regrouped(self, task: str, view: RouterView) -> Regrouped | None:
        """How a task's grouping changed since a router, if it did."""
        like = self.like(view)
        change = None if like is None else like.change(task, view.columns)
        if like is None or change is None:
            return None
        return Regrouped(*change, counted=view.can_tell(task, like))


def build_report(
    histories: Sequence[TaskHistory],
    *,
    router: int | None,
    start: int | None = None,
    margin: float = DEFAULT_MARGIN,
    lineage: Lineage | None = None,
    verification: Mapping[str, Any] | None = None,
    bank_map: BankMap | None = None,
) -> ForgettingReport:
    """Work out the report from stored predictions and choices.

    Args:
        histories: one per task of the report, in order of appearance.
        router: the version reported on.
        start: the version compared with, where one was named: then each history's ``earlier``
            is what counts, otherwise the first router that knew the task.
        margin: the loss that the verdicts allow.
        lineage: what the figures rest on, to pass through.
        verification: what a verification run found, to pass through.
        bank_map: where the tasks lie beside each other, to pass through.

    Raises:
        IntegrityError: what is stored of one task's rows differs in length or does not give the
            figures that the registry has.
    """
    for history in histories:
        _check(history)
    routers = tuple(sorted({view.version for h in histories for view in h.views}))
    known = [{view.version: view for view in history.views} for history in histories]
    counting = _Counting(histories, router)

    def row(version: int, *, alike: bool) -> tuple[float | None, ...]:
        seen = zip(histories, (views.get(version) for views in known), strict=True)
        return tuple(_averaged(h, view, counting if alike else None) for h, view in seen)

    as_served = tuple(row(version, alike=False) for version in routers)
    matrix = tuple(
        row(version, alike=True) if version in counting.other else served
        for version, served in zip(routers, as_served, strict=True)
    )
    begins = [h.first() if start is None else h.earlier for h in histories]
    pairs = [
        history.pairs(earlier, now, counting.like(earlier.view))
        if earlier and (now := history.view(router))
        else None
        for history, earlier in zip(histories, begins, strict=True)
    ]
    changes = [None if pair is None else measure(pair, margin) for pair in pairs]
    judged = iter(judge([change for change in changes if change is not None]))
    lines = tuple(
        _line(history, router, earlier, change, next(judged) if change else None, counting)
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
        tuple(
            _averaged(history, history.begin, counting)
            if start is not None or history.earlier is None
            else _begun(history, line)
            for history, line in zip(histories, lines, strict=True)
        ),
        tuple(sorted(counting.other)),
        as_served,
        counting.uncounted(histories),
        bank_map,
    )


def _averaged(
    history: TaskHistory, view: RouterView | None, counting: _Counting | None
) -> float | None:
    """What a router's row of the matrix says of a task; by its own grouping without another."""
    if view is None or not history.oracle.outcome.averaged:
        return None
    like = None if counting is None else counting.like(view)
    return view.quality(history.task, history.oracle, like)


def _begun(history: TaskHistory, line: TaskReport) -> float | None:
    """Accuracy that another version of the expert had under the task's first router."""
    if not history.oracle.outcome.averaged or line.routed is None or line.difference is None:
        return None
    return line.routed - line.difference  # on the rows that both versions were measured on


def _line(
    history: TaskHistory,
    router: int | None,
    earlier: Earlier | None,
    change: Change | None,
    judged: Judged | None,
    counting: _Counting,
) -> TaskReport:
    now = history.view(router)
    then = None if earlier is None else earlier.view.quality(history.task, earlier.oracle)
    alike, regrouped = then, None
    if earlier is not None and (like := counting.like(earlier.view)) is not None:
        alike = earlier.view.quality(history.task, earlier.oracle, like)
        regrouped = counting.regrouped(history.task, earlier.view)
    verdict = judged.verdict if judged else None
    if earlier and router is not None and now is None:
        verdict = "lost"  # it was served, and the router reported on sends no row to it
    if earlier and now is not None and change is None:
        verdict = "inconclusive"  # another expert answers, and no row tells the two apart
    if history.unread is not None:
        verdict = "inconclusive"  # there are choices, and they cannot be counted
    return TaskReport(
        task=history.task,
        expert=history.expert_id,
        metric=history.oracle.outcome.metric,
        n=history.n,
        at_add=history.quality_at_add,
        oracle=history.quality_at_add if history.measured is None else history.measured,
        oracle_source="stored" if history.measured is None else "measured",
        start=earlier.view.version if earlier else None,
        start_expert=earlier.expert_id if earlier else None,
        routed_at_add=then,
        routed=now.quality(history.task, history.oracle) if now else None,
        verdict_expert="identical" if history.weights_identical else "changed",
        verdict_routed=verdict,
        change=change,
        judged=judged,
        majority=history.majority,
        p_beats_majority=history.p_beats_majority,
        unread=history.unread,
        routed_before=alike,
        regrouped=regrouped,
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
    views = [*history.views, *([history.begin] if history.begin else [])]
    lengths = {history.oracle.outcome.n, *(len(view.choice) for view in views)}
    if lengths != {history.n}:
        raise IntegrityError(
            f"{history.expert_id}: stored evidence covers {sorted(lengths)} rows, "
            f"the registry says {history.n}"
        )
    for view in views:
        view.check(history.expert_id)
    recounted = history.oracle.outcome.quality()
    if recounted != history.quality_at_add:
        raise IntegrityError(
            f"{history.expert_id}: the stored answers give {recounted}, "
            f"the registry says {history.quality_at_add}"
        )
