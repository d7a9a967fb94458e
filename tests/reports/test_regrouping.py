"""A report over routers of different groups, worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from expertbank.config import sha256_text
from expertbank.evaluation.history import Earlier, RouterView, TaskHistory
from expertbank.evaluation.outcome import Answered, Counted
from expertbank.reports.build import build_report
from expertbank.reports.columns import as_json
from expertbank.reports.html import forgetting_page
from expertbank.reports.markdown import forgetting_markdown
from expertbank.reports.regrouping import regrouping

ALONE = (("sky",), ("mood",), ("film",))
TOGETHER = (("mood", "sky"), ("film",))
RIGHT = [True, True, False, True]


def view(version: int, columns: tuple[tuple[str, ...], ...], choice: list[int]) -> RouterView:
    return RouterView(version, columns, np.array(choice, dtype=np.int32))


def sky(*views: RouterView) -> TaskHistory:
    """Four rows, of which the expert has 0, 1 and 3 right."""
    oracle = Answered(Counted(np.array(RIGHT)), tuple(sha256_text(f"{n}") for n in range(4)))
    return TaskHistory("sky", "sky@1", 4, 0.75, True, oracle, views)


# router 1: rows 0 to sky, 1 and 3 to mood, 2 to film.    as served: row 0 right, 1 of 4
#                                        in one group: rows 0, 1 and 3 right, 3 of 4
CAME_TOGETHER = sky(view(1, ALONE, [0, 1, 2, 1]), view(2, TOGETHER, [0, 0, 1, 0]))
# router 1: rows 0, 1, 2 to mood and sky, 3 to film.       as served: rows 0 and 1 right
# router 2: row 0 to sky, row 1 to mood, the rest as before.          row 0 right
TAKEN_APART = sky(view(1, TOGETHER, [0, 0, 0, 1]), view(2, ALONE, [0, 1, 0, 2]))


def test_a_gain_that_grouping_alone_made_is_no_gain_of_the_router() -> None:
    report = build_report([CAME_TOGETHER], router=2)
    (line,) = report.tasks
    assert (line.routed_at_add, line.routed_before, line.routed) == (0.25, 0.75, 0.75)
    assert (line.difference, line.flip_rate, line.verdict_routed) == (0, 0, "identical")
    told = {"before": ["sky"], "now": ["mood", "sky"], "counted": True}
    assert as_json(line)["regrouped"] == told


def test_the_matrix_is_counted_alike_and_as_it_was_served_stands_beside_it() -> None:
    report = build_report([CAME_TOGETHER], router=2)
    document = report.to_dict()
    assert document["matrix"] == [[0.75], [0.75]]
    assert document["matrix_as_served"] == [[0.25], [0.75]]
    assert document["regrouped_routers"] == [1]
    assert document["backward_transfer"] == document["forgetting"] == 0


def test_a_loss_of_the_router_does_not_hide_behind_a_gain_of_the_grouping() -> None:
    history = replace(
        CAME_TOGETHER, views=(CAME_TOGETHER.views[0], view(2, TOGETHER, [0, 1, 1, 0]))
    )
    (line,) = build_report([history], router=2).tasks
    assert (line.routed_at_add, line.routed_before, line.routed) == (0.25, 0.75, 0.5)
    assert line.difference == -0.25
    assert line.change is not None
    assert (line.change.losses, line.change.gains, line.flip_rate) == (1, 0, 0.25)


def test_what_taking_tasks_apart_costs_is_shown_and_said_to_be_of_both() -> None:
    report = build_report([TAKEN_APART], router=2)
    (line,) = report.tasks
    assert (line.routed_at_add, line.routed_before, line.routed) == (0.5, 0.5, 0.25)
    assert line.flip_rate == 0.25, "the row that went to the other part of the old group"
    assert line.regrouped is not None
    assert not line.regrouped.counted
    assert report.matrix == report.as_served == ((0.5,), (0.25,))
    said = " ".join(regrouping(report))
    assert "under router@2 sky answers alone; before, mood and sky answered together" in said
    assert "cannot be counted by the present groups" in said
    assert report.uncounted == (1,)


def test_a_router_between_whose_groups_are_apart_now_is_named_for_what_forgetting_says() -> None:
    first, last = view(1, ALONE, [0, 0, 0, 1]), view(3, ALONE, [0, 0, 0, 1])
    report = build_report([sky(first, view(2, TOGETHER, [0, 0, 0, 0]), last)], router=3)
    assert report.matrix == report.as_served == ((0.5,), (0.75,), (0.5,))
    assert report.tasks[0].regrouped is None, "the routers compared have the same groups"
    (said,) = regrouping(report)
    assert "router@2" in said
    assert "forgetting show what the grouping did too" in said


def test_it_is_said_in_words_what_the_grouping_did_on_the_page_too() -> None:
    report = build_report([CAME_TOGETHER], router=2)
    said = regrouping(report)
    assert "under router@2 mood and sky answer together; before, sky answered alone" in said[0]
    assert "sky from 0.250 to 0.750" in said[1]
    assert "The matrix counts router@1 by the present groups" in said[2]
    for text in (forgetting_page(report), forgetting_markdown(report)):
        assert "what the router did and not the grouping" in text


def test_where_no_grouping_changed_nothing_is_said_and_every_figure_is_as_it_was() -> None:
    history = sky(view(1, TOGETHER, [0, 0, 0, 1]), view(2, (("film",), ("mood", "sky")), [1] * 4))
    report = build_report([history], router=2)
    (line,) = report.tasks
    assert regrouping(report) == ()
    assert line.regrouped is None
    assert line.routed_at_add == line.routed_before == 0.5
    assert report.matrix == report.as_served


@pytest.mark.parametrize("named", [True, False])
def test_it_holds_for_a_named_start_and_for_a_first_router_that_was_forgotten(named: bool) -> None:
    first, now = CAME_TOGETHER.views
    history = replace(CAME_TOGETHER, views=(now,), begin=None if named else first)
    if named:
        history = replace(history, earlier=Earlier("sky@1", history.oracle, first))
    report = build_report([history], router=2, start=1 if named else None)
    (line,) = report.tasks
    assert (line.routed_at_add, line.routed_before, line.flip_rate) == (0.25, 0.75, 0)
    if not named:
        assert report.begin == (0.75,)
