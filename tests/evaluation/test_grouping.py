"""Counting an earlier router's choices by a later grouping, against every case there is."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from expertbank.config import sha256_text
from expertbank.evaluation.grouping import Columns, Grouping
from expertbank.evaluation.history import Earlier, RouterView, TaskHistory
from expertbank.evaluation.outcome import Answered, Counted

TASKS = ("a", "b", "c", "d", "e")


@st.composite
def columns(draw: st.DrawFn, tasks: tuple[str, ...] = TASKS) -> Columns:
    """Any way in which a router may choose among some of the tasks."""
    known = draw(st.lists(st.sampled_from(tasks), unique=True, min_size=1))
    places = draw(st.lists(st.integers(0, 4), min_size=len(known), max_size=len(known)))
    found: dict[int, list[str]] = {}
    for task, place in zip(known, places, strict=True):
        found.setdefault(place, []).append(task)
    return tuple(tuple(sorted(column)) for column in found.values())


def home(task: str, own: Columns) -> set[str]:
    return next((set(column) for column in own if task in column), set())


def test_tasks_that_came_together_are_each_others_home_and_nobody_elses() -> None:
    together = Grouping.of((("a", "b"), ("c",)))
    assert [together.is_home("a", [task]) for task in "abc"] == [True, True, False]
    assert [together.is_home("c", [task]) for task in "abc"] == [False, False, True]
    assert all(together.can_tell("a", [task]) for task in "abc")
    assert together.change("a", (("a",), ("b",), ("c",))) == (("a",), ("a", "b"))
    assert together.change("c", (("a",), ("b",), ("c",))) is None


def test_of_tasks_that_were_taken_apart_nobody_can_tell_which_was_meant() -> None:
    apart = Grouping.of((("a",), ("b",), ("c",)))
    assert apart.is_home("a", ["a", "b"])
    assert not apart.can_tell("a", ["a", "b"])
    assert apart.can_tell("c", ["a", "b"])
    assert not apart.is_home("c", ["a", "b"])


def test_tasks_that_come_or_go_are_no_change_of_grouping() -> None:
    now = Grouping.of((("a", "b"), ("c",)))
    assert not now.differs((("a",), ("c",)))
    assert not now.differs((("a", "b", "gone"), ("c", "lost")))
    assert now.change("a", (("a",), ("c",))) is None
    assert now.change("a", (("a", "b", "gone"),)) is None
    assert now.differs((("a",), ("b",)))


@given(columns(), columns())
def test_a_grouping_differs_just_where_it_does_for_some_task(one: Columns, other: Columns) -> None:
    now = Grouping.of(one)
    both = {t for column in one for t in column} & {t for column in other for t in column}
    changed = {task for task in both if home(task, one) & both != home(task, other) & both}
    assert now.differs(other) == bool(changed)
    assert {task for task in both if now.change(task, other)} == changed


@given(columns(), columns(), st.sampled_from(TASKS))
def test_what_can_be_told_is_what_any_member_meant_would_give(
    one: Columns, other: Columns, task: str
) -> None:
    now = Grouping.of(one)
    for column in other:
        known = [member for member in column if member in now.mates]
        if not known or task not in now.mates:
            continue
        # Had the earlier router chosen among single tasks, it would have meant one of these.
        outcomes = {member in now.mates[task] for member in known}
        assert now.can_tell(task, column) == (len(outcomes) == 1)
        if len(outcomes) == 1:
            assert now.is_home(task, column) == outcomes.pop()


@given(columns(), columns(), st.data())
def test_no_accuracy_moves_by_more_than_the_churn_whatever_the_groups(
    before: Columns, now: Columns, data: st.DataObject
) -> None:
    shared = sorted({t for c in before for t in c} & {t for c in now for t in c})
    if not shared:
        return
    task, rows = data.draw(st.sampled_from(shared)), 12
    right = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    views = [
        RouterView(
            version,
            own,
            np.array(
                data.draw(st.lists(st.integers(0, len(own) - 1), min_size=rows, max_size=rows)),
                dtype=np.int32,
            ),
        )
        for version, own in ((1, before), (2, now))
    ]
    digests = tuple(sha256_text(str(row)) for row in range(rows))
    oracle = Answered(Counted(right), digests)
    history = TaskHistory(task, f"{task}@1", rows, None, True, oracle, tuple(views))
    for like in (None, Grouping.of(now)):
        pairs = history.pairs(Earlier(f"{task}@1", oracle, views[0]), views[1], like)
        assert pairs is not None
        assert not np.any(~pairs.flipped & (pairs.before != pairs.now))


def test_every_grouping_of_three_tasks_is_the_same_as_itself() -> None:
    for places in itertools.product(range(3), repeat=3):
        found: dict[int, list[str]] = {}
        for task, place in zip(TASKS, places, strict=False):
            found.setdefault(place, []).append(task)
        own = tuple(tuple(column) for column in found.values())
        assert not Grouping.of(own).differs(own)
