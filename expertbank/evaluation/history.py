"""What the bank stored about one task's evaluation rows, as the report reads it.

A row is right in routed mode only if the router chose an expert of the row's own task and that
expert's answer is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from expertbank.errors import IntegrityError
from expertbank.evaluation.evidence import Ints
from expertbank.evaluation.grouping import Columns, Grouping
from expertbank.evaluation.outcome import Answered
from expertbank.evaluation.verdicts import Pairs


@dataclass(frozen=True, slots=True)
class RouterView:
    """What one router chose for one task's rows.

    Attributes:
        version: the router's version.
        columns: what the router chooses among, by position: the names of the tasks that answer
            together, one name unless they are a group.
        choice: ``[rows]`` int32 position of the chosen column.
    """

    version: int
    columns: Columns
    choice: Ints

    def check(self, expert_id: str) -> None:
        """Refuse choices of members that the router does not have.

        Raises:
            IntegrityError: there is one; the message says whose rows they are.
        """
        if not bool(((self.choice >= 0) & (self.choice < len(self.columns))).all()):
            raise IntegrityError(
                f"{expert_id}: the evidence of router {self.version} names a member "
                f"that its list of {len(self.columns)} does not have"
            )

    def chose(self, task: str, like: Grouping | None = None) -> npt.NDArray[np.bool_]:
        """``[rows]`` whether the row went to ``task`` or its group.

        Args:
            task: whose rows they are.
            like: another router's grouping to count by, where that can be told; default the
                router's own.
        """
        chosen, rows = self._chosen()
        home = [task in column if like is None else like.is_home(task, column) for column in chosen]
        return np.array(home, dtype=bool)[rows]

    def can_tell(self, task: str, like: Grouping) -> bool:
        """Whether every row that was sent can be counted by another router's grouping."""
        return all(like.can_tell(task, column) for column in self._chosen()[0])

    def quality(self, task: str, answered: Answered, like: Grouping | None = None) -> float | None:
        """Quality with the router choosing; ``like`` as in ``chose``."""
        return answered.outcome.quality(self.chose(task, like))

    def elsewhere(self, other: RouterView) -> npt.NDArray[np.bool_]:
        """``[rows]`` whether no task that the row was sent to is one that it went to before.

        The same task in another place, or in a group that has grown, is not elsewhere.
        """
        (ours, rows), (theirs, other_rows) = self._chosen(), other._chosen()
        apart = [[set(one).isdisjoint(two) for two in theirs] for one in ours]
        return np.array(apart, dtype=bool).reshape(len(ours), len(theirs))[rows, other_rows]

    def counts(self) -> tuple[int, ...]:
        """Rows sent to each column."""
        found = np.bincount(self.choice, minlength=len(self.columns))
        return tuple(int(count) for count in found)

    def _chosen(self) -> tuple[list[tuple[str, ...]], npt.NDArray[np.intp]]:
        """The columns that got a row, few of perhaps thousands, and ``[rows]`` which of them."""
        places, rows = np.unique(self.choice, return_inverse=True)
        return [self.columns[place] for place in places.tolist()], rows


@dataclass(frozen=True, slots=True)
class Earlier:
    """The task under the router that the report starts from.

    Attributes:
        expert_id: the expert that answered the task then; perhaps another version.
        oracle: that expert's stored answers.
        view: what the router chose for their rows.
    """

    expert_id: str
    oracle: Answered
    view: RouterView


@dataclass(frozen=True, slots=True)
class TaskHistory:
    """Everything stored about one expert's evaluation rows, and what was measured on them.

    Attributes:
        task: the task's name.
        expert_id: ``task@version``.
        n: evaluation rows.
        quality_at_add: accuracy (regression: Pearson) with the task given, when the expert was
            added.
        weights_identical: whether its file still hashes to its digest, rehashed in this run.
        oracle: its stored answers.
        views: every router that contains the expert, in version order, up to the one reported;
            those that were forgotten are left out.
        measured: the same now, where the rows were run again.
        earlier: the task under the router to start from: one that was named, if it knew the task;
            else the task's first, if another version of its expert answered then.
        majority: what always giving the most frequent answer would reach; ``None`` where no
            answer is right or wrong, and where the bank did not store it.
        p_beats_majority: one-sided, that the expert was right no more often than that.
        begin: what the expert's first router chose, where that router was forgotten: its choices
            stay.
        unread: why the rows could not be routed again, where a bank keeps no choices of them.
    """

    task: str
    expert_id: str
    n: int
    quality_at_add: float | None
    weights_identical: bool
    oracle: Answered
    views: tuple[RouterView, ...]
    measured: float | None = None
    earlier: Earlier | None = None
    majority: float | None = None
    p_beats_majority: float | None = None
    begin: RouterView | None = None
    unread: str | None = None

    def view(self, version: int | None) -> RouterView | None:
        """The view of one router, if it contains the expert."""
        return next((view for view in self.views if view.version == version), None)

    def first(self) -> Earlier | None:
        """The task under the first router that knew it."""
        view = self.begin or next(iter(self.views), None)
        own = None if view is None else Earlier(self.expert_id, self.oracle, view)
        return self.earlier or own

    def pairs(
        self, earlier: Earlier, now: RouterView, like: Grouping | None = None
    ) -> Pairs | None:
        """The same rows under both routers.

        Args:
            earlier: the router to compare with.
            now: the router reported on.
            like: its grouping, where the earlier router's differs: both are counted by it.

        A row counts as flipped if it was sent elsewhere, or home under one router only: where
        tasks of a group were taken apart, the same row may go to a part that is not its task's.
        Another version of the task's expert was perhaps evaluated on other rows: then those in
        both evaluations are compared, and each counts as flipped, since other weights answer it.
        ``None`` where the two have no row in common.
        """
        if earlier.expert_id == self.expert_id:
            ours = theirs = np.arange(self.n)
            home = earlier.view.chose(self.task, like) != now.chose(self.task)
            flipped = now.elsewhere(earlier.view) | home
        else:
            places = {digest: row for row, digest in enumerate(earlier.oracle.row_digests)}
            common = [
                (row, places[digest])
                for row, digest in enumerate(self.oracle.row_digests)
                if digest in places
            ]
            if not common or earlier.oracle.outcome.metric != self.oracle.outcome.metric:
                return None
            ours, theirs = (np.array(side) for side in zip(*common, strict=True))
            flipped = np.ones(len(ours), dtype=bool)
        outcome, clusters = self.oracle.outcome, self.oracle.clusters
        home_then, home_now = earlier.view.chose(self.task, like), now.chose(self.task)
        return Pairs(
            earlier.oracle.outcome.rows(home_then)[theirs],
            outcome.rows(home_now)[ours],
            flipped,
            None if outcome.targets is None else outcome.targets[ours],
            None if clusters is None else clusters[ours],
            None if outcome.targets is None else (home_then[theirs], home_now[ours]),
        )


def router_columns(tasks: Sequence[str], groups: Mapping[str, str | None]) -> Columns:
    """What a router over ``tasks`` chooses among: groups as one, in order of first appearance.

    Args:
        tasks: of its members, in their order.
        groups: the group of every task that was in one when it was fitted.
    """
    columns: dict[tuple[str | None, str], list[str]] = {}
    for task in tasks:
        group = groups.get(task)
        columns.setdefault((group, "") if group else (None, task), []).append(task)
    return tuple(tuple(column) for column in columns.values())
