"""The page's table of tasks: who answers, and how well it is known to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expertbank.evaluation.verdicts import ALPHA
from expertbank.kinds import KINDS
from expertbank.reports.figures import DASH, share, whole, yes_or_not_shown
from expertbank.reports.findings import TaskReport
from expertbank.reports.forgetting import ForgettingReport
from expertbank.serving.live import ModelInfo
from expertbank.texts import printable
from expertbank.wording import count

MOST = 200
"""Tasks that the page lists; a bank may hold ten thousand."""
NO_TASKS = frozenset({"router", "group"})
"""Kinds of model that are no task."""


@dataclass(frozen=True, slots=True)
class Line:
    """What one line of the table is made from."""

    model: ModelInfo
    report: TaskReport | None


@dataclass(frozen=True, slots=True)
class Heading:
    """A column; its names are those that the report's templates read."""

    name: str
    heading: str
    meaning: str
    text: Callable[[Line], str]
    numeric: bool = False


def tasks_table(models: Sequence[ModelInfo], report: ForgettingReport | None) -> dict[str, Any]:
    """Caption, columns and lines of the tasks that can be asked.

    Args:
        models: those of the state that is served.
        report: the forgetting report; without one its columns are left out.
    """
    tasks = [model for model in models if model.kind not in NO_TASKS]
    reported: Mapping[str, TaskReport] = (
        {} if report is None else {task.task: task for task in report.tasks}
    )
    columns = [*_COLUMNS, *(_REPORTED if reported else ())]
    lines = [Line(model, reported.get(model.name)) for model in tasks[:MOST]]
    caption = "Figures are of each expert's evaluation rows, as stored when it was added."
    if len(tasks) > MOST:
        caption += f" The first {MOST} of {count(len(tasks), 'task')}."
    return {
        "caption": caption,
        "columns": columns,
        "rows": [
            {
                "cells": [(column, column.text(line)) for column in columns],
                "state": (line.report.state if line.report else None) or "none",
            }
            for line in lines
        ],
    }


def _task(line: Line) -> str:
    model = line.model
    name = printable(model.name)
    return name if model.group is None else f"{name} (group {printable(model.group)})"


def _expert(line: Line) -> str:
    model = line.model
    older = len(model.versions) - 1
    text = printable(model.expert or DASH)
    if older > 0:
        text += f", {older} older"
    if model.routed is None:
        return f"{text}; not routed to"
    return text if model.routed == model.expert else f"{text}; routed to {printable(model.routed)}"


def _kind(line: Line) -> str:
    model = line.model
    kind = model.kind.replace("_", " ")
    return f"{kind}, {count(len(model.labels), 'label')}" if model.labels else kind


def _rows(line: Line) -> str:
    rows = line.model.metrics.get("n")
    return DASH if rows is None else whole(rows)


def _quality(line: Line) -> str:
    name, value = KINDS.get(line.model.kind).headline(line.model.metrics)
    return share(value) if name == "accuracy" else f"{name} {share(value)}"


def _majority(line: Line) -> str:
    return share(line.model.metrics.get("majority"))


def _beaten(line: Line) -> str:
    p_value = line.model.metrics.get("p_beats_majority")
    return DASH if p_value is None else yes_or_not_shown(p_value <= ALPHA)


def _routed(line: Line) -> str:
    return DASH if line.report is None else share(line.report.routed)


def _verdict(line: Line) -> str:
    return (line.report.state if line.report else None) or "no verdict"


_COLUMNS = (
    Heading("task", "task", "The name to ask it by.", _task),
    Heading("expert", "expert", "The newest, which answers when the task is named.", _expert),
    Heading("kind", "kind", "What its answers are.", _kind),
    Heading("n", "rows", "Evaluation rows.", _rows, numeric=True),
    Heading(
        "majority",
        "majority",
        "Accuracy of always giving the most frequent answer.",
        _majority,
        numeric=True,
    ),
    Heading(
        "at_add", "accuracy", "With the task named, when it was added.", _quality, numeric=True
    ),
    Heading(
        "beats_majority",
        "majority\nbeaten",
        "Whether it is shown at 5% that the expert is right more often than that.",
        _beaten,
    ),
)
_REPORTED = (
    Heading("routed", "routed\nnow", "With the router choosing.", _routed, numeric=True),
    Heading("verdict", "verdict", "Whether adding other tasks cost it anything.", _verdict),
)
