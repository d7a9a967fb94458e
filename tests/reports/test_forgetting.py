"""The report, figure by figure, on two tasks and three routers worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from expertbank.config import sha256_text
from expertbank.errors import IntegrityError
from expertbank.evaluation.history import Earlier, RouterView, TaskHistory, router_columns
from expertbank.evaluation.outcome import Answered, Correlated, Counted, pearson
from expertbank.reports.build import build_report
from expertbank.reports.columns import as_json
from expertbank.reports.words import headline, reason, summary


def oracle(name: str, right: list[bool]) -> Answered:
    """Rows that were right or wrong."""
    digests = tuple(sha256_text(f"{name} {row}") for row in range(len(right)))
    return Answered(Counted(np.array(right)), digests)


def view(version: int, tasks: tuple[str, ...], choice: list[int]) -> RouterView:
    columns = tuple((task,) for task in tasks)
    return RouterView(version, columns, np.array(choice, dtype=np.int32))


# Rows of "sky": the expert has rows 0, 1 and 3 right.
#   router 1 knows sky only.                 right: 0 1 3       3 of 4
#   router 2 sends row 1 to film.            right: 0 3         2 of 4
#   router 3 sends row 2 to film (wrong anyway). right: 0 1 3   3 of 4, one row flipped
SKY = TaskHistory(
    "sky",
    "sky@1",
    4,
    0.75,
    weights_identical=True,
    oracle=oracle("sky", [True, True, False, True]),
    views=(
        view(1, ("sky",), [0, 0, 0, 0]),
        view(2, ("film", "sky"), [1, 0, 1, 1]),
        view(3, ("sky", "film"), [0, 0, 1, 0]),
    ),
)
# Rows of "film": the expert has all but row 1 right.
#   router 2 sends row 2 to sky.             right: 0 3 4       3 of 5
#   router 3 sends rows 2 and 3 to sky.      right: 0 4         2 of 5, one row flipped
FILM = TaskHistory(
    "film",
    "film@1",
    5,
    0.8,
    weights_identical=True,
    oracle=oracle("film", [True, False, True, True, True]),
    views=(
        view(2, ("film", "sky"), [0, 0, 1, 0, 0]),
        view(3, ("sky", "film"), [1, 1, 0, 0, 1]),
    ),
)


FIGURES = (
    "task",
    "expert",
    "metric",
    "n",
    "at_add",
    "oracle",
    "oracle_source",
    "routed_at_add",
    "routed",
    "difference",
    "flip_rate",
    "verdict",
)


def test_every_figure_is_what_the_hand_works_out() -> None:
    report = build_report([SKY, FILM], router=3)
    assert report.router == 3
    assert report.routers == (1, 2, 3)
    assert report.matrix == ((0.75, None), (0.5, 0.6), (0.75, 0.4))
    sky, film = (as_json(line) for line in report.tasks)
    assert {key: sky[key] for key in FIGURES} == {
        "task": "sky",
        "expert": "sky@1",
        "metric": "accuracy",
        "n": 4,
        "at_add": 0.75,
        "oracle": 0.75,
        "oracle_source": "stored",
        "routed_at_add": 0.75,
        "routed": 0.75,
        "difference": 0.0,
        "flip_rate": 0.25,
        "verdict": {"expert": "identical", "routed": sky["verdict"]["routed"]},
    }
    assert {key: film[key] for key in FIGURES} == {
        "task": "film",
        "expert": "film@1",
        "metric": "accuracy",
        "n": 5,
        "at_add": 0.8,
        "oracle": 0.8,
        "oracle_source": "stored",
        "routed_at_add": 0.6,
        "routed": 0.4,
        "difference": pytest.approx(-0.2),
        "flip_rate": 0.2,
        "verdict": {"expert": "identical", "routed": film["verdict"]["routed"]},
    }
    whole = report.to_dict()
    assert whole["average_accuracy"] == pytest.approx((0.75 + 0.4) / 2)
    assert whole["backward_transfer"] == pytest.approx((0.0 - 0.2) / 2)
    assert whole["forgetting"] == pytest.approx((0.0 + 0.2) / 2)
    assert whole["routing_regret"] == pytest.approx((0.0 + 0.4) / 2)
    assert whole["weights_unchanged"] is True
    assert whole["matrix"] == [[0.75, None], [0.5, 0.6], [0.75, 0.4]]


def test_a_row_sent_to_another_task_is_wrong_even_where_the_right_expert_knew() -> None:
    history = replace(SKY, views=(view(2, ("film", "sky"), [0, 0, 0, 0]),))
    (line,) = build_report([history], router=2).tasks
    assert line.routed == 0.0
    assert line.oracle == 0.75


def test_another_place_in_the_routers_list_is_not_another_choice() -> None:
    views = (view(1, ("sky",), [0] * 4), view(2, ("film", "law", "sky"), [2] * 4))
    (line,) = build_report([replace(SKY, views=views)], router=2).tasks
    assert line.flip_rate == 0
    assert line.difference == 0


def test_flips_bound_the_change_of_accuracy() -> None:
    for line in build_report([SKY, FILM], router=3).tasks:
        assert line.difference is not None
        assert line.flip_rate is not None
        assert abs(line.difference) <= line.flip_rate + 1e-12


def test_measured_answers_replace_the_stored_and_say_so() -> None:
    report = build_report([replace(SKY, measured=0.5), FILM], router=3)
    assert (report.tasks[0].oracle, report.tasks[0].oracle_source) == (0.5, "measured")
    assert report.tasks[0].at_add == 0.75
    assert report.tasks[1].oracle_source == "stored"
    assert report.routing_regret == pytest.approx((0.5 - 0.75 + 0.4) / 2)


def test_one_changed_expert_shows_in_its_line_and_in_the_whole() -> None:
    report = build_report([SKY, replace(FILM, weights_identical=False)], router=3)
    assert [line.verdict_expert for line in report.tasks] == ["identical", "changed"]
    assert report.weights_unchanged is False


def test_before_the_first_router_there_is_a_report_without_routing() -> None:
    report = build_report([replace(SKY, views=()), replace(FILM, views=())], router=None)
    assert report.matrix == ()
    for line in report.tasks:
        assert line.routed is None
        assert line.routed_at_add is None
        assert line.difference is None
        assert line.flip_rate is None
    whole = report.to_dict()
    for figure in ("average_accuracy", "backward_transfer", "forgetting", "routing_regret"):
        assert whole[figure] is None


def test_an_earlier_router_can_be_reported_on() -> None:
    histories = [replace(SKY, views=SKY.views[:2]), replace(FILM, views=FILM.views[:1])]
    report = build_report(histories, router=2)
    assert report.matrix == ((0.75, None), (0.5, 0.6))
    assert [line.routed for line in report.tasks] == [0.5, 0.6]
    assert report.tasks[0].flip_rate == 0.25
    assert report.to_dict()["backward_transfer"] == pytest.approx(-0.25)


def test_tasks_whose_first_router_was_forgotten_are_compared_with_it_all_the_same() -> None:
    kept = [
        replace(SKY, views=SKY.views[2:], begin=SKY.views[0]),
        replace(FILM, views=FILM.views[1:], begin=FILM.views[0]),
    ]
    whole, short = build_report([SKY, FILM], router=3), build_report(kept, router=3)
    assert short.routers == (3,)
    assert short.matrix == whole.matrix[-1:]
    assert short.tasks == whole.tasks
    for figure in ("average_accuracy", "backward_transfer", "routing_regret"):
        assert short.to_dict()[figure] == whole.to_dict()[figure]
    # Of what was forgotten only the first is known, and for neither task was that its worst.
    assert short.forgetting == pytest.approx((0.0 + 0.2) / 2)
    new = [replace(FILM, views=FILM.views[1:])]
    assert build_report(new, router=3).backward_transfer is None


def test_a_new_version_is_compared_with_the_task_under_its_first_router() -> None:
    rows = 400
    good, bad = oracle("sky", [True] * rows), oracle("sky", [row % 2 == 0 for row in range(rows)])
    then, now = view(1, ("sky",), [0] * rows), view(2, ("sky",), [0] * rows)
    worse = TaskHistory(
        "sky", "sky@2", rows, 0.5, True, bad, (now,), earlier=Earlier("sky@1", good, then)
    )
    report = build_report([worse], router=2)
    assert (report.verdict, report.start, report.tasks[0].start) == ("lost", None, 1)
    assert report.tasks[0].difference == report.backward_transfer == -0.5
    assert report.forgetting == 0.5
    assert "the new expert has less" in summary(report)
    assert "Routing now costs" not in summary(report)
    lost = view(2, ("film", "sky"), [0] * (rows - 10) + [1] * 10)
    routed = replace(worse, quality_at_add=1.0, oracle=good, views=(lost,))
    said = summary(build_report([routed], router=2))
    assert "Routing now costs accuracy on sky." in said
    assert "the new expert has less" not in said
    both = summary(build_report([replace(worse, views=(lost,))], router=2))
    assert "Routing now costs accuracy on sky. On sky the new expert has less" in both
    assert "400 rows that sky@1 was measured on too: 200 lost" in reason(report.tasks[0], 0.01)


def test_the_change_of_a_new_version_is_that_of_the_rows_both_were_measured_on() -> None:
    old = oracle("sky", [True] * 100 + [False] * 100)
    new = Answered(
        Counted(np.array([True] * 80 + [False] * 20 + [True] * 100)),
        (*old.row_digests[:100], *(sha256_text(f"other {row}") for row in range(100))),
    )
    views = view(1, ("sky",), [0] * 200), view(2, ("sky",), [0] * 200)
    history = TaskHistory(
        "sky", "sky@2", 200, 0.9, True, new, views[1:], earlier=Earlier("sky@1", old, views[0])
    )
    report = build_report([history], router=2)
    (line,) = report.tasks
    assert (line.routed_before, line.routed) == (0.5, 0.9)
    assert line.difference == pytest.approx(-0.2)
    assert report.backward_transfer == pytest.approx(-0.2)
    assert (as_json(line)["compared"], line.verdict_routed) == (100, "lost")


def test_nothing_gives_an_empty_report() -> None:
    whole = build_report([], router=None).to_dict()
    assert whole["tasks"] == []
    assert whole["average_accuracy"] is None


@pytest.mark.parametrize(
    "history",
    [
        replace(SKY, n=5),
        replace(SKY, quality_at_add=1.0),
        replace(SKY, oracle=oracle("sky", [True, True, True])),
        replace(SKY, oracle=oracle("sky", [True, False, False, True])),
        replace(SKY, views=(view(1, ("sky",), [0, 0, 0]),)),
        replace(SKY, views=(*SKY.views, view(4, ("sky",), [0] * 5))),
    ],
    ids=[
        "more rows in the registry",
        "more right rows in the registry",
        "a row too few",
        "other answers",
        "a choice too few",
        "a choice too many",
    ],
)
def test_evidence_that_does_not_match_the_registry_is_refused(history: TaskHistory) -> None:
    with pytest.raises(IntegrityError, match="sky@1"):
        build_report([FILM, history], router=3)


@pytest.mark.parametrize("place", [2, -1])
def test_a_choice_that_is_no_member_is_refused(place: int) -> None:
    broken = view(3, ("sky", "film"), [0, 0, place, 0])
    with pytest.raises(IntegrityError, match="sky@1"):
        build_report([replace(SKY, views=(broken,))], router=3)


def test_whether_an_expert_beats_its_majority_class_is_said_of_every_task() -> None:
    strong = replace(SKY, majority=0.5, p_beats_majority=0.01)
    weak = replace(FILM, majority=0.8, p_beats_majority=0.5)
    report = build_report([strong, weak, replace(SKY, task="old")], router=1)
    said = [
        (line["majority"], line["beats_majority"], line["p_beats_majority"])
        for line in report.to_dict()["tasks"]
    ]
    assert said == [(0.5, True, 0.01), (0.8, False, 0.5), (None, None, None)]
    assert [task.expert for task in report.not_above_majority] == ["film@1"]


def test_a_report_where_nothing_was_forgotten_names_experts_not_above_their_majority() -> None:
    known = replace(FILM, views=FILM.views[:1], majority=0.8, p_beats_majority=0.5)
    report = build_report([known], router=2)
    assert report.verdict == "identical"
    assert headline(report).startswith("Nothing was forgotten")
    assert headline(report).endswith("1 expert not shown to beat its majority class")
    assert "film@1 (0.800 against 0.800)" in summary(report)
    better = build_report([replace(known, p_beats_majority=0.01)], router=2)
    assert "majority" not in headline(better)
    assert "frequent" not in summary(better)
    changed = build_report([replace(known, weights_identical=False)], router=2)
    assert headline(changed) == "Stored experts have changed"


def test_what_verification_found_is_passed_on() -> None:
    found = {"sky": {"identical": 4}}
    assert build_report([SKY], router=3, verification=found).to_dict()["verification"] == found


# A regression task of five rows, known to routers 2 and 3.
#   router 2 sends all rows to it; router 3 sends rows 1 and 4 to film.
GRADES = np.array([1.0, 2.0, 3.0, 4.0, 5.0], dtype=np.float32)
ANSWERS = np.array([1.5, 1.0, 3.5, 4.5, 4.0], dtype=np.float32)
GRADE = TaskHistory(
    "grade",
    "grade@1",
    5,
    pearson(ANSWERS, GRADES),
    weights_identical=True,
    oracle=Answered(
        Correlated(ANSWERS, GRADES), tuple(sha256_text(f"grade {row}") for row in range(5))
    ),
    views=(
        view(2, ("film", "sky", "grade"), [2] * 5),
        view(3, ("grade", "sky", "film"), [0, 2, 0, 0, 2]),
    ),
)


def test_a_regression_task_is_listed_by_its_correlation() -> None:
    line = as_json(build_report([SKY, FILM, GRADE], router=3).tasks[2])
    # By hand: deviations of the answers -1.4 -1.9 0.6 1.6 1.1, of the grades -2 -1 0 1 2;
    # products 2.8 1.9 0 1.6 2.2 = 8.5; squares 1.96 3.61 0.36 2.56 1.21 = 9.7, and 10.
    assert line["oracle"] == line["at_add"] == line["routed_at_add"]
    assert line["oracle"] == pytest.approx(8.5 / (9.7 * 10) ** 0.5)
    assert (line["metric"], line["n"], line["flip_rate"]) == ("pearson", 5, 0.4)


def test_a_misrouted_regression_row_counts_as_the_mean_answer() -> None:
    line = build_report([GRADE], router=3).tasks[0]
    # Rows 1 and 4 become 2.9: deviations -1.4 0 0.6 1.6 0 from it; their own mean is 0.16.
    replaced = np.array([1.5, 2.9, 3.5, 4.5, 2.9])
    assert line.routed == pytest.approx(np.corrcoef(replaced, GRADES)[0, 1])
    assert line.routed != pytest.approx(line.oracle)
    nowhere = replace(GRADE, views=(view(3, ("grade", "film"), [1] * 5),))
    assert build_report([nowhere], router=3).tasks[0].routed is None


def test_regression_tasks_are_in_no_average_and_their_matrix_column_is_empty() -> None:
    without = build_report([SKY, FILM], router=3).to_dict()
    report = build_report([SKY, GRADE, FILM], router=3).to_dict()
    assert [row[1] for row in report["matrix"]] == [None] * 3
    assert [[row[0], row[2]] for row in report["matrix"]] == without["matrix"]
    for figure in ("average_accuracy", "backward_transfer", "forgetting", "routing_regret"):
        assert report[figure] == without[figure]
    assert report["weights_unchanged"] is True
    alone = build_report([GRADE], router=3).to_dict()
    for figure in ("average_accuracy", "backward_transfer", "forgetting", "routing_regret"):
        assert alone[figure] is None


def test_values_that_do_not_match_the_registry_are_refused() -> None:
    with pytest.raises(IntegrityError, match="grade@1"):
        build_report([replace(GRADE, quality_at_add=0.5)], router=3)


def grouped(version: int, columns: tuple[tuple[str, ...], ...], choice: list[int]) -> RouterView:
    return replace(view(version, ("x",), choice), columns=columns)


def test_a_row_sent_to_the_tasks_group_is_right_by_the_tasks_own_answer() -> None:
    columns = (("mood", "sky"), ("film",))
    history = replace(SKY, views=(grouped(1, columns, [0, 0, 0, 1]),))
    (line,) = build_report([history], router=1).tasks
    # Rows 0 and 1 are right; row 2 is in the group and answered wrongly, row 3 went to film.
    assert line.routed == 0.5


def test_a_task_joining_the_group_is_no_flip_and_leaving_for_another_column_is() -> None:
    views = (
        grouped(1, (("sky",), ("film",)), [0, 0, 0, 1]),
        grouped(2, (("film",), ("mood", "sky")), [1, 1, 0, 0]),
    )
    (line,) = build_report([replace(SKY, views=views)], router=2).tasks
    assert line.flip_rate == 0.25


def test_columns_are_groups_as_one_in_order_of_first_appearance() -> None:
    groups = {"a": "one", "b": None, "c": "two", "d": "one"}
    expected = (("a", "d"), ("b",), ("c",), ("e",))
    assert router_columns(("a", "b", "c", "d", "e"), groups) == expected
    # A group that is called as a task is not that task.
    assert router_columns(("a", "one"), groups) == (("a",), ("one",))
    assert router_columns((), groups) == ()
