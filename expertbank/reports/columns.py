"""The table of columns: everything that a forgetting report says of each task.

JSON, terminal, Markdown and page all read it. A further column is one more entry of ``COLUMNS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from expertbank.plain import plain
from expertbank.reports.figures import (
    DASH,
    interval,
    p_value,
    share,
    signed,
    whole,
    yes_or_not_shown,
)
from expertbank.reports.findings import TaskReport

Part = Literal["tasks", "tests", "data"]
METHODS = {
    "score": "score test",
    "cluster-t": "t, clusters",
    "jackknife-t": "t, jackknife",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One thing that a report says of a task.

    Attributes:
        name: its key in the JSON document.
        heading: what stands above it, in one or two lines.
        meaning: what it is, in one sentence.
        get: its value as JSON has it; ``None`` where there is none.
        format: how people see a value that is not ``None``.
        part: where people see it: ``tasks`` in the first table of the page and of the Markdown
            and on the terminal; ``tests`` in the second table of page and Markdown; ``data`` in
            JSON alone.
        numeric: whether it is set to the right, as figures are.
    """

    name: str
    heading: str
    meaning: str
    get: Callable[[TaskReport], Any]
    format: Callable[[Any], str] = str
    part: Part = "tasks"
    numeric: bool = True

    def text(self, task: TaskReport) -> str:
        """What people see of a task: the value, or a dash."""
        value = self.get(task)
        return DASH if value is None else self.format(value)


def shown(part: Part) -> tuple[Column, ...]:
    """The columns of one table, in order; those of the tests begin with the expert too."""
    first = COLUMNS[:1] if part == "tests" else ()
    return (*first, *(column for column in COLUMNS if column.part == part))


def as_json(task: TaskReport) -> dict[str, Any]:
    """Every column's value under its name."""
    return {column.name: column.get(task) for column in COLUMNS}


def _of_change(name: str) -> Callable[[TaskReport], Any]:
    return lambda task: getattr(task.change, name) if task.change else None


def _of_judged(name: str) -> Callable[[TaskReport], Any]:
    return lambda task: getattr(task.judged, name) if task.judged else None


def _verdict(verdict: dict[str, str | None]) -> str:
    return "changed" if verdict["expert"] == "changed" else verdict["routed"] or "no verdict"


COLUMNS: tuple[Column, ...] = (
    Column(
        "expert",
        "task",
        "The expert that answers the task, with its version.",
        attrgetter("expert"),
        numeric=False,
    ),
    Column("task", "name", "The task's name.", attrgetter("task"), part="data"),
    Column(
        "verdict",
        "verdict",
        "What the rows prove of the routed quality, or changed where the stored expert is not "
        "the one that was measured.",
        lambda task: {"expert": task.verdict_expert, "routed": task.verdict_routed},
        _verdict,
        numeric=False,
    ),
    Column(
        "metric",
        "metric",
        "What quality is measured by: accuracy, Pearson's correlation for regression, or routing: "
        "of a task that an adapter elsewhere answers, the share of rows that are sent to it.",
        attrgetter("metric"),
        part="tests",
        numeric=False,
    ),
    Column("n", "rows", "Evaluation rows.", attrgetter("n"), whole),
    Column(
        "majority",
        "majority",
        "Accuracy of always giving the most frequent answer to the evaluation rows.",
        attrgetter("majority"),
        share,
    ),
    Column(
        "beats_majority",
        "majority\nbeaten",
        "Whether it is shown at 5% that the expert, when added, was right more often than always "
        "giving the most frequent answer.",
        attrgetter("beats_majority"),
        yes_or_not_shown,
        numeric=False,
    ),
    Column(
        "at_add",
        "given\nat add",
        "Quality with the task given, when the expert was added.",
        attrgetter("at_add"),
        share,
    ),
    Column(
        "oracle",
        "given\nnow",
        "Quality with the task given, now (routing papers call this the oracle): from stored "
        "answers, or measured again where verification ran all rows.",
        attrgetter("oracle"),
        share,
    ),
    Column(
        "oracle_source",
        "source",
        "Whether the quality with the task given was measured again for this report.",
        attrgetter("oracle_source"),
        part="data",
    ),
    Column(
        "routed_at_add",
        "routed then",
        "Quality with the router choosing, under the router compared with: the task's first, "
        "unless one was named; counted as it was then, by that router's own groups.",
        attrgetter("routed_at_add"),
        share,
        "data",
    ),
    Column(
        "routed_before",
        "routed\nbefore",
        "Quality with the router choosing, under the router compared with: the task's first, "
        "unless one was named; counted by the groups of the router reported on, where those were "
        "others and it can be told.",
        attrgetter("routed_before"),
        share,
    ),
    Column(
        "regrouped",
        "regrouped",
        "With which tasks the task answered then and answers now, where that changed, and whether "
        "the earlier choices could be counted by the present groups.",
        lambda task: plain(task.regrouped),
        part="data",
    ),
    Column(
        "routed",
        "routed\nnow",
        "Quality with the router choosing, under the router reported on.",
        attrgetter("routed"),
        share,
    ),
    Column(
        "regret",
        "regret",
        "What the router costs: quality with the task given, now, minus that with the router "
        "choosing, now.",
        attrgetter("regret"),
        signed,
        "data",
    ),
    Column(
        "difference",
        "change",
        "Routed quality now minus before, both counted by the same groups; where another version "
        "answered before, on the rows that both were measured on.",
        attrgetter("difference"),
        signed,
    ),
    Column(
        "flip_rate",
        "churn",
        "Prediction churn: the share of rows whose choice differs between the two routers; "
        "experts are frozen, so no accuracy can have moved by more.",
        attrgetter("flip_rate"),
        share,
    ),
    Column(
        "margin_provable",
        "provable\nmargin",
        "The smallest margin that the task's rows, taken alone, prove at 95%; with no row lost, "
        "n rows prove 1 - 0.05^(1/n), so 0.01 takes 299.",
        _of_change("margin_provable"),
        share,
    ),
    Column(
        "unread",
        "unread",
        "Why the task's rows could not be routed again, in a bank that keeps no choices of rows.",
        attrgetter("unread"),
        part="data",
    ),
    Column(
        "from",
        "since",
        "Version of the router compared with.",
        attrgetter("start"),
        part="data",
    ),
    Column(
        "from_expert",
        "expert before",
        "The expert that answered the task under the router compared with.",
        attrgetter("start_expert"),
        part="data",
    ),
    Column(
        "compared",
        "rows compared",
        "Evaluation rows known to both routers.",
        lambda task: task.change.n if task.change else 0,
        whole,
        "tests",
    ),
    Column(
        "clustered",
        "clustered",
        "Whether rows belong together, so that clusters are drawn and not rows.",
        lambda task: bool(task.change and task.change.clusters is not None),
        part="data",
    ),
    Column(
        "clusters",
        "clusters",
        "Sets of rows that stand or fall together, such as the sentences of one contract.",
        _of_change("clusters"),
        whole,
        "tests",
    ),
    Column(
        "flips",
        "sent elsewhere",
        "Rows whose choice differs between the two routers.",
        _of_change("flips"),
        whole,
        "tests",
    ),
    Column(
        "losses",
        "lost",
        "Rows that were right and are wrong; 0 for regression, where no row is right or wrong.",
        _of_change("losses"),
        part="data",
    ),
    Column(
        "gains",
        "gained",
        "Rows that were wrong and are right; 0 for regression.",
        _of_change("gains"),
        part="data",
    ),
    Column(
        "interval",
        "90% interval",
        "Interval of the change; each end is a one-sided 95% bound.",
        lambda task: list(task.change.interval) if task.change and task.change.interval else None,
        interval,
        "tests",
    ),
    Column(
        "margin_possible",
        "possible margin",
        "The smallest margin that so many rows could prove with no row lost.",
        _of_change("margin_possible"),
        part="data",
    ),
    Column(
        "p_noninferiority",
        "preserved, p alone",
        "One-sided p-value against a loss of the margin or more, of this task alone.",
        _of_change("p_noninferiority"),
        part="data",
    ),
    Column(
        "p_noninferiority_adjusted",
        "preserved\np",
        "One-sided p-value against a loss of the margin or more, corrected over all tasks (Holm).",
        _of_judged("p_noninferiority_adjusted"),
        p_value,
        "tests",
    ),
    Column(
        "p_loss",
        "lost, p alone",
        "One-sided p-value against no loss at all, of this task alone.",
        _of_change("p_loss"),
        part="data",
    ),
    Column(
        "p_loss_adjusted",
        "lost\np",
        "One-sided p-value against no loss at all, corrected over all tasks (Holm).",
        _of_judged("p_loss_adjusted"),
        p_value,
        "tests",
    ),
    Column(
        "p_mcnemar",
        "McNemar\np",
        "Two-sided, exact, for comparison: a large value is no evidence that nothing was lost.",
        _of_change("p_mcnemar"),
        p_value,
        "tests",
    ),
    Column(
        "p_beats_majority",
        "beaten\np",
        "One-sided exact p-value (McNemar) that the expert is right more often than always giving "
        "the most frequent answer, of this task alone.",
        attrgetter("p_beats_majority"),
        p_value,
        "tests",
    ),
    Column(
        "method",
        "method",
        "How interval and p-values of the change were worked out.",
        _of_change("method"),
        METHODS.__getitem__,
        "tests",
        numeric=False,
    ),
)
