"""Counting what one router chose by the grouping of another, where that can be told.

Which tasks answer together is a router's own. When it changes, an earlier router's choices were
counted by another rule than a later one's: a row of one task that went to another was wrong while
both stood alone, and is right once they are a group. To compare like with like, all are counted by
the grouping of the router reported on. That can be told exactly where tasks came together. Where
they were taken apart it cannot: which of them the earlier router would have chosen, it never said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Columns = tuple[tuple[str, ...], ...]
"""What a router chooses among: the tasks that answer together, by column."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which tasks answer together under one router.

    Attributes:
        mates: by task the tasks of its column, itself among them.
    """

    mates: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, columns: Columns) -> Grouping:
        """The grouping of a router that chooses among ``columns``."""
        return cls({task: frozenset(column) for column in columns for task in column})

    def is_home(self, task: str, column: Sequence[str]) -> bool:
        """Whether a row of ``task`` that went to ``column`` of another router counts as sent home.

        It does where the task was in that column, and where all tasks of it that this router knows
        answer together with the task here.
        """
        if task in column:
            return True
        told = self._known(column)
        return bool(told) and told <= self.mates.get(task, frozenset())

    def can_tell(self, task: str, column: Sequence[str]) -> bool:
        """Whether ``is_home`` says what would be true of a router with this grouping.

        Not where some tasks of the column answer together with the task here, and some do not.
        """
        told, mates = self._known(column), self.mates.get(task, frozenset())
        return told <= mates or told.isdisjoint(mates)

    def differs(self, columns: Columns) -> bool:
        """Whether tasks that both routers know answer together under one of them only."""
        known = {task for column in columns for task in column}
        for column in columns:
            told = self._known(column)
            if told and self.mates[next(iter(told))] & known != told:
                return True
        return False

    def change(self, task: str, columns: Columns) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """With which tasks ``task`` answered under a router with ``columns``, and does here.

        Only tasks that both routers know, the task itself among them; ``None`` where they are the
        same, and where one of the routers does not know the task.
        """
        own = next((column for column in columns if task in column), None)
        here = self.mates.get(task)
        if own is None or here is None or here == frozenset(own):
            return None
        known = {one for column in columns for one in column}
        before, now = self._known(own), here & known
        return None if before == now else (tuple(sorted(before)), tuple(sorted(now)))

    def _known(self, column: Sequence[str]) -> frozenset[str]:
        return frozenset(task for task in column if task in self.mates)
