"""The forgetting report as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from expertbank.reports import words
from expertbank.reports.columns import Column, Part, shown
from expertbank.reports.escaping import plain, row
from expertbank.reports.figures import points
from expertbank.reports.findings import Findings, TaskReport
from expertbank.reports.regrouping import regrouping
from expertbank.wording import count


def forgetting_markdown(report: Findings, *, made_at: str = "") -> str:
    """The report as GitHub-flavoured Markdown; equal reports give equal text.

    Args:
        report: what to show.
        made_at: moment to state, if any.
    """
    lines = [
        f"## Forgetting report: {report.state or 'no verdict'}",
        "",
        f"**{plain(words.headline(report))}.** {plain(words.summary(report))}",
        "",
        f"{plain(words.compared(report).capitalize())}; margin {points(report.margin)} of "
        f"accuracy{f'; made {plain(made_at)}' if made_at else ''}.",
        "",
        *(line for said in regrouping(report) for line in (plain(said), "")),
        *_table("tasks", report.tasks),
        "",
        " · ".join(f"{name} {value}" for name, value in words.facts(report)),
    ]
    compared = [task for task in report.tasks if task.change]
    if compared:
        lines += ["", "What the verdicts rest on:", "", *_table("tests", compared)]
    if report.verification is not None:
        gone = sum(entry["unverifiable"] for entry in report.verification.values())
        lines += ["", f"{count(report.rows_run, 'row')} run again, {gone:,} unverifiable."]
        lines += [f"- {plain(f'{task}: {why}')}" for task, why in report.unverifiable.items()]
    if report.lineage is not None:
        lines += ["", f"Backbone `{report.lineage.backbone_digest}`."]
        lines += [f"- {plain(e.id)} `{e.digest}`" for e in report.lineage.experts]
        lines += [f"- router@{r.version} `{r.digest}`" for r in report.lineage.routers]
    return "\n".join(lines) + "\n"


def _table(part: Part, tasks: Sequence[TaskReport]) -> list[str]:
    columns = shown(part)
    return [
        row(*(column.heading.replace("\n", " ") for column in columns)),
        row(*("---:" if column.numeric else "---" for column in columns)),
        *(row(*(_cell(column, task) for column in columns)) for task in tasks),
    ]


def _cell(column: Column, task: TaskReport) -> str:
    return column.text(task) if column.numeric else plain(column.text(task))
