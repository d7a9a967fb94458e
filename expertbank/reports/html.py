"""The forgetting report as one self-contained page: no script, no network.

Equal reports give equal bytes. Everything that comes from data (names of tasks, files and models)
is escaped. The page's own policy forbids loading anything at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from expertbank.evaluation.metrics import route_confusion
from expertbank.reports import words
from expertbank.reports.bank_map import HEADINGS, BankMap, drawn
from expertbank.reports.columns import Part, shown
from expertbank.reports.figures import points
from expertbank.reports.findings import Findings, TaskReport
from expertbank.reports.regrouping import regrouping
from expertbank.reports.svg import before_and_after, change_with_interval
from expertbank.reports.templating import render

_SECTIONS = {
    "tasks": "Tasks",
    "tests": "What the verdicts rest on",
    "figures": "Before, after and change",
    "matrix": "Accuracy matrix",
    "routes": "Where rows are sent",
    "map": "Where tasks lie",
    "verification": "Rows run again",
    "lineage": "Lineage and digests",
    "method": "What the figures mean",
}


def forgetting_page(report: Findings, *, made_at: str = "") -> str:
    """The page as text.

    Args:
        report: what to show.
        made_at: moment to state on the page; the only thing that the report does not decide.
    """
    compared = [task for task in report.tasks if task.change]
    absent = {
        "tests": not compared,
        "figures": report.router is None,
        "matrix": not report.matrix,
        "routes": report.confusion is None,
        "map": report.bank_map is None,
        "lineage": report.lineage is None,
    }
    return render(
        "forgetting.html",
        report=report,
        made_at=made_at,
        headline=words.headline(report),
        summary=words.summary(report),
        regrouping=regrouping(report),
        compared=words.compared(report),
        margin=points(report.margin),
        facts=words.facts(report),
        sections={name: title for name, title in _SECTIONS.items() if not absent.get(name)},
        tasks=_table("tasks", report.tasks, report.margin),
        tests=_table("tests", compared, report.margin),
        figures=_figures(report),
        matrix=_matrix(report),
        routes=_routes(report),
        map=_map(report.bank_map),
        meanings=_meanings(),
    )


def _table(part: Part, tasks: Sequence[TaskReport], margin: float) -> dict[str, Any]:
    """Columns, and per task its cells, verdict and why it has it."""
    columns = shown(part)
    return {
        "columns": columns,
        "rows": [
            {
                "cells": [(column, column.text(task)) for column in columns],
                "state": task.state or "none",
                "why": words.reason(task, margin),
            }
            for task in tasks
        ],
    }


def _figures(report: Findings) -> list[tuple[str, Markup]]:
    """Captions and drawings; ``svg`` escapes what comes from data."""
    found = [
        (
            "Routed quality on a scale from 0 to 1. Ring: under the router compared with. "
            "Disc: now.",
            before_and_after(report.tasks),
        )
    ]
    if any(task.change and task.change.change is not None for task in report.tasks):
        found.append(
            (
                "Change of routed quality with its 90% interval. Dashed line: the margin. An "
                "interval that ends right of it rules out a larger loss for the task taken alone.",
                change_with_interval(report.tasks, report.margin),
            )
        )
    return [(caption, Markup(svg)) for caption, svg in found]  # noqa: S704 (escaped by svg)


def _matrix(report: Findings) -> dict[str, Any]:
    """A heat table: names of columns, and rows of values with whether they are set in bold."""
    if not report.matrix:
        return {}
    return {
        "columns": [task.task for task in report.tasks],
        "rows": [
            (f"router@{version}", [(value, False) for value in row])
            for version, row in zip(report.routers, report.matrix, strict=True)
        ],
    }


def _routes(report: Findings) -> dict[str, Any]:
    """A heat table of the shares of each task's rows, those of its own column in bold."""
    found = report.confusion
    if found is None:
        return {}
    return {
        "columns": found.columns,
        "rows": [
            (
                task,
                [
                    (value, task in column.split(" + "))
                    for value, column in zip(row, found.columns, strict=True)
                ],
            )
            for task, row in zip(found.tasks, route_confusion(found.counts), strict=True)
        ],
    }


def _map(found: BankMap | None) -> dict[str, Any]:
    """The drawing, what it shows in words, and its numbers."""
    if found is None:
        return {}
    return {
        "caption": found.caption,
        "closest": found.closest,
        "svg": Markup(drawn(found)),  # noqa: S704 (escaped there)
        "headings": HEADINGS,
        "rows": [cloud.row for cloud in found.clouds],
    }


def _meanings() -> list[tuple[str, str]]:
    """Every heading and figure with what it means, the columns first."""
    columns = [*shown("tasks"), *shown("tests")[1:]]
    return [(column.heading, column.meaning) for column in columns] + list(words.EXPLANATIONS)
