"""One table of columns stands behind JSON, terminal, Markdown and page."""

from __future__ import annotations

import io
from html import escape

import pytest
from expertbank_cli.forgetting import print_report
from rich.console import Console
from sample_report import sample_report

from expertbank.reports import columns
from expertbank.reports.columns import Column
from expertbank.reports.forgetting import ForgettingReport
from expertbank.reports.html import forgetting_page
from expertbank.reports.markdown import forgetting_markdown

NEW = Column(
    "letters",
    "letters\nin name",
    "How many letters the name has.",
    lambda task: len(task.task),
    lambda value: f"{value} of 26",
)


def terminal(report: ForgettingReport) -> str:
    out = io.StringIO()
    print_report(Console(file=out, width=200), report)
    return out.getvalue()


def test_one_more_entry_appears_in_all_four(monkeypatch: pytest.MonkeyPatch) -> None:
    report = sample_report()
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, NEW))
    assert [task["letters"] for task in report.to_dict()["tasks"]] == [
        len(task.task) for task in report.tasks
    ]
    page, markdown, shown = forgetting_page(report), forgetting_markdown(report), terminal(report)
    assert escape(NEW.heading) in page
    assert page.count(escape(NEW.meaning)) == 2, "as the heading's tooltip and in the legend"
    assert "letters in name" in markdown
    assert "letters" in shown
    for text in (page, markdown, shown):
        assert text.count("4 of 26") == sum(len(task.task) == 4 for task in report.tasks)


def test_a_column_of_the_tests_stands_in_the_second_table(monkeypatch: pytest.MonkeyPatch) -> None:
    report = sample_report()
    second = Column(NEW.name, NEW.heading, NEW.meaning, NEW.get, NEW.format, "tests")
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, second))
    assert "4 of 26" in forgetting_page(report).partition('id="tests"')[2]
    assert "4 of 26" in forgetting_markdown(report).partition("rest on")[2]
    assert "4 of 26" not in terminal(report)


def test_whether_the_majority_class_is_beaten_is_shown_everywhere() -> None:
    report = sample_report()
    (weak,) = report.not_above_majority
    for text, cell in (
        (forgetting_page(report), "<td>not shown</td>"),
        (forgetting_markdown(report), "| not shown |"),
        (terminal(report), "  not shown  "),
    ):
        assert "1 expert not shown to beat its majority class" in text
        assert f"{weak.majority:.3f}" in text
        assert text.count(cell) == 1


def test_every_column_has_a_name_of_its_own_and_says_what_it_is_in_one_sentence() -> None:
    names = [column.name for column in columns.COLUMNS]
    assert len(names) == len(set(names))
    for column in columns.COLUMNS:
        assert column.meaning.endswith(".")
        assert ". " not in column.meaning


def test_a_value_that_is_not_there_is_a_dash_whatever_its_format() -> None:
    regression = sample_report().tasks[-1]
    for column in columns.COLUMNS:
        if column.get(regression) is None:
            assert column.text(regression) == "-"
