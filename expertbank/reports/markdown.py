"""The forgetting report as Markdown for a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from expertbank.reports import words
from expertbank.reports.columns import Column, Part, shown
from expertbank.reports.figures import count, points
from expertbank.reports.forgetting import ForgettingReport, TaskReport

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&@-])")


def forgetting_markdown(report: ForgettingReport, *, made_at: str = "") -> str:
    """The report as GitHub-flavoured Markdown; equal reports give equal text.

    Args:
        report: what to show.
        made_at: moment to state, if any.
    """
    lines = [
        f"## Forgetting report: {report.state or 'no verdict'}",
        "",
        f"**{_plain(words.headline(report))}.** {_plain(words.summary(report))}",
        "",
        f"{_plain(words.compared(report).capitalize())}; margin {points(report.margin)} of "
        f"accuracy{f'; made {_plain(made_at)}' if made_at else ''}.",
        "",
        *_table("tasks", report.tasks),
        "",
        " · ".join(f"{name} {value}" for name, value in words.facts(report)),
    ]
    compared = [task for task in report.tasks if task.change]
    if compared:
        lines += ["", "What the verdicts rest on:", "", *_table("tests", compared)]
    if report.verification is not None:
        rows = sum(entry["rows"] for entry in report.verification.values())
        gone = sum(entry["unverifiable"] for entry in report.verification.values())
        lines += ["", f"{count(rows, 'row')} run again, {gone:,} unverifiable."]
    if report.lineage is not None:
        lines += ["", f"Backbone `{report.lineage.backbone_digest}`."]
        lines += [f"- {_plain(e.id)} `{e.digest}`" for e in report.lineage.experts]
        lines += [f"- router@{r.version} `{r.digest}`" for r in report.lineage.routers]
    return "\n".join(lines) + "\n"


def _table(part: Part, tasks: Sequence[TaskReport]) -> list[str]:
    columns = shown(part)
    return [
        _row(column.heading.replace("\n", " ") for column in columns),
        _row("---:" if column.numeric else "---" for column in columns),
        *(_row(_cell(column, task) for column in columns) for task in tasks),
    ]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(column: Column, task: TaskReport) -> str:
    return column.text(task) if column.numeric else _plain(column.text(task))


def _plain(text: str) -> str:
    """Text that Markdown and HTML leave as it is."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
