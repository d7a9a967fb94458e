"""What is told of groups of unknown rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from expertbank.evaluation.likeness import ALONE, Likeness
from expertbank.workflows.answering.collected import Collected

NEAREST = 3
"""Known tasks that are named for a group at the most."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """A known task that rows of a group went to.

    Attributes:
        task: the task.
        share: share of the group's rows that the router sends to it, alone or together with the
            other tasks of its own group.
    """

    task: str
    share: float


@dataclass(frozen=True, slots=True)
class TypicalRow:
    """A row that is near to its group's others.

    Attributes:
        index: position in the input, from 0, of the first such row.
        text: its text, cut after 500 characters.
        text_pair: its second text, likewise.
    """

    index: int
    text: str
    text_pair: str | None = None


@dataclass(frozen=True, slots=True)
class UnknownGroup:
    """Unknown rows that are alike.

    Attributes:
        number: 1 for the largest.
        rows: how many.
        distinct: how many without repetitions.
        share: of all unknown rows.
        nearest: known tasks that the router sends them to, the most frequent first.
        typical: rows that are nearest to the group's others, the nearest first.
    """

    number: int
    rows: int
    distinct: int
    share: float
    nearest: tuple[Nearest, ...]
    typical: tuple[TypicalRow, ...]


@dataclass(frozen=True, slots=True)
class Unknowns:
    """What rows showed of tasks that the bank does not know.

    Attributes:
        rows: rows that were routed.
        unknown: those that were called unknown.
        distinct: of these, how many were compared, each once however often it stood there.
        groups: the largest groups, as many as were asked for.
        groups_found: how many groups there are.
        in_other_groups: rows of the groups that are not among ``groups``.
        alone: rows that are like too few others to be a group.
        not_compared: rows beyond the most that are compared.
        sampled: distinct rows that the groups were made from; the others went to the nearest.
        width_from: what told how wide a group may be: the ``known`` rows, by their tasks, or,
            where there were too few of these, the ``unknown`` ones, by how they divide.
    """

    rows: int
    unknown: int
    distinct: int = 0
    groups: tuple[UnknownGroup, ...] = ()
    groups_found: int = 0
    in_other_groups: int = 0
    alone: int = 0
    not_compared: int = 0
    sampled: int = 0
    width_from: Literal["known", "unknown"] = "unknown"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form; a row without a second text has no key for it."""
        document = asdict(self)
        for group in document["groups"]:
            for row in group["typical"]:
                if row["text_pair"] is None:
                    del row["text_pair"]
        return document


def told(
    rows: int,
    unknown: int,
    collected: Sequence[Collected],
    likeness: Likeness,
    groups: int,
    typical: int,
) -> Unknowns:
    """The result.

    Args:
        rows: how many were routed.
        unknown: how many of them are unknown.
        collected: the distinct ones that were compared.
        likeness: their groups.
        groups: how many to tell of.
        typical: how many rows of each.
    """
    sizes: Counter[int] = Counter()
    for one, group in zip(collected, likeness.group.tolist(), strict=True):
        sizes[group] += one.count
    return Unknowns(
        rows,
        unknown,
        len(collected),
        tuple(
            _group(number, sizes[number] / unknown, collected, likeness, typical)
            for number in range(min(groups, likeness.count))
        ),
        likeness.count,
        sum(sizes[number] for number in range(groups, likeness.count)),
        sizes[ALONE],
        unknown - sizes.total(),
        likeness.sampled,
        "known" if likeness.by_known else "unknown",
    )


def in_order(likeness: Likeness, groups: int) -> Iterator[tuple[int, int]]:
    """Group number from 0 and place of each row of the largest groups, the most typical first."""
    for number in range(min(groups, likeness.count)):
        for place in _typical(likeness, number):
            yield number, place


def _group(
    number: int, share: float, collected: Sequence[Collected], likeness: Likeness, typical: int
) -> UnknownGroup:
    members = _typical(likeness, number)
    rows = sum(collected[place].count for place in members)
    went: Counter[str] = Counter()
    for place in members:
        for task in collected[place].tasks:
            went[task] += collected[place].count
    nearest = sorted(went.items(), key=lambda one: (-one[1], one[0]))[:NEAREST]
    shown = [collected[place] for place in members[:typical]]
    return UnknownGroup(
        number + 1,
        rows,
        len(members),
        share,
        tuple(Nearest(task, count / rows) for task, count in nearest),
        tuple(TypicalRow(one.index, one.text, one.text_pair) for one in shown),
    )


def _typical(likeness: Likeness, number: int) -> list[int]:
    """Places of a group's rows, the one nearest to the others first."""
    members = np.flatnonzero(likeness.group == number)
    order = np.argsort(-likeness.nearness[members], kind="stable")
    found: list[int] = members[order].tolist()
    return found
