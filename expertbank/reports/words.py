"""What a forgetting report says, in words: the same sentences on a terminal, in a page, in text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expertbank.evaluation.verdicts import Verdict
from expertbank.reports.figures import points, share, signed
from expertbank.reports.findings import MISROUTED, Findings, TaskReport
from expertbank.wording import count, listing

MEANINGS: dict[Verdict, str] = {
    "identical": "no row is sent elsewhere, so each is right, or wrong, as it was before",
    "preserved": "shown at 95% that the loss is smaller than the margin",
    "inconclusive": "neither a loss nor its absence could be shown with these rows",
    "lost": "shown at 95% that quality fell, and not shown that it fell by less than the margin",
}


def headline(report: Findings) -> str:
    """The verdict in a few words, then how many tasks are routed badly and experts are weak."""
    if not report.weights_unchanged:
        return "Stored experts have changed"
    verdict = {
        None: "Nothing to compare yet",
        "identical": "Nothing was forgotten: every choice is as it was",
        "preserved": "Nothing was forgotten beyond the margin",
        "inconclusive": "Not proved",
        "lost": "Something was lost",
    }[report.verdict]
    if report.unverifiable:
        run = "not all rows" if report.rows_run else "no row"
        verdict = f"{verdict}; {run} could be run again"
    clauses = [verdict]
    if costly := len(report.misrouted):
        clauses.append(f"the router costs {count(costly, 'task')} more than {points(MISROUTED)}")
    if weak := len(report.not_above_majority):
        theirs = "its majority class" if weak == 1 else "their majority class"
        clauses.append(f"{count(weak, 'expert')} not shown to beat {theirs}")
    return "; ".join(clauses)


def summary(report: Findings) -> str:
    """The verdict in a few sentences, naming the tasks that decide it."""
    said = _verdict(report)
    if report.unverifiable:
        said += (
            f" Rows of {listing(tuple(report.unverifiable))} could not be run again: of these the "
            "report says what was stored when the expert was added, and no more."
        )
    if not report.weights_unchanged:
        return said
    if report.misrouted:
        named = [
            f"{task.task} ({share(task.routed)} routed, {share(task.oracle)} with the task named)"
            for task in report.misrouted
        ]
        said += (
            f" The router takes rows of these tasks for others': {listing(named)}. Tasks that "
            "answer the same texts belong in a group; of others name the task where you know it."
        )
    if report.not_above_majority:
        named = [
            f"{task.expert} ({share(task.at_add)} against {share(task.majority)})"
            for task in report.not_above_majority
        ]
        said += (
            " Not shown to be right more often than always giving the most frequent answer: "
            f"{listing(named)}."
        )
    return said


def facts(report: Findings) -> tuple[tuple[str, str], ...]:
    """The figures over all tasks, under their names."""
    return (
        ("expert weights", "unchanged" if report.weights_unchanged else "CHANGED"),
        ("average accuracy", share(report.average_accuracy)),
        ("backward transfer", signed(report.backward_transfer)),
        ("forgetting", signed(report.forgetting)),
        ("routing regret", share(report.routing_regret)),
    )


def _verdict(report: Findings) -> str:
    changed = [task.expert for task in report.tasks if task.verdict_expert == "changed"]
    if changed:
        return (
            f"The stored bytes of {listing(changed)} no longer match their digests. No figure "
            "about them can be trusted; restore them from a backup."
        )
    counted = [task for task in report.tasks if task.verdict_routed is not None]
    if not counted:
        return "No task was under two routers yet. Run retrain-router after adding tasks."
    margin, total = points(report.margin), len(counted)
    named = {verdict: report.named(verdict) for verdict in MEANINGS}
    weights = "All expert weights are bit-identical."
    if report.verdict == "identical":
        return f"{weights} No evaluation row of {count(total, 'task')} is sent elsewhere."
    if report.verdict == "preserved":
        same = len(named["identical"])
        rest = f"; {count(same, 'task')} identical to the last row" if same else ""
        return (
            f"{weights} For {count(total - same, 'task')} it is shown at 95% that less than "
            f"{margin} of accuracy was lost{rest}."
        )
    if report.verdict == "inconclusive":
        unread = [task.task for task in report.tasks if task.unread is not None]
        apart = [task.task for task in report.tasks if _apart(task)]
        few = [task for task in named["inconclusive"] if task not in {*unread, *apart}]
        said = [f"{weights} No loss was shown."]
        if unread:
            said.append(
                f"Rows of {listing(unread)} could not be read again, which would decide it."
            )
        if apart:
            said.append(
                f"The experts of {listing(apart)} before and now share no evaluation row, so "
                "nothing compares them."
            )
        if few:
            said.append(
                f"For {listing(few)} these rows cannot prove that it is below {margin}. More "
                "evaluation rows, or a wider margin, would decide it."
            )
        return " ".join(said)
    unsure = named["inconclusive"]
    more = f" {listing(unsure)} could not be decided." if unsure else ""
    lost = [task for task in report.tasks if task.verdict_routed == "lost"]
    worse = [task.task for task in lost if _is_worse(task)]
    costly = [
        task.task for task in lost if not _is_worse(task) or (task.regret or 0) > report.margin
    ]
    said = [weights]
    if costly:
        said.append(f"Routing now costs accuracy on {listing(costly)}.")
    if worse:
        said.append(f"On {listing(worse)} the new expert has less than the one before.")
    return " ".join(said) + more


def _is_worse(task: TaskReport) -> bool:
    """Whether a new expert has less, even with the task named, than the one before had routed."""
    if not task.is_new_expert or task.oracle is None or task.routed_before is None:
        return task.is_new_expert
    return task.oracle < task.routed_before


def _apart(task: TaskReport) -> bool:
    """Whether two experts answered the task whose rows cannot be compared."""
    undecided = task.verdict_routed == "inconclusive" and task.unread is None
    return undecided and task.change is None


def verified(task: str, found: Mapping[str, Any]) -> str:
    """What running one task's rows again found, with the reason where some could not be run."""
    ran = f"{found['rows']} of {found['of']} rows run again, {found['unverifiable']} unverifiable"
    if found["max_logit_difference"] is None:
        return f"not verified {task}: {ran}: {found['reason']}"
    text = f"verified {task}: {ran}, largest logit difference {found['max_logit_difference']:.2g}"
    return f"{text}; {found['reason']}" if found.get("reason") else text


def compared(report: Findings) -> str:
    """Which two points in time the report compares."""
    if report.router is None:
        return "experts alone, before the first router"
    since = "each task's first router" if report.start is None else f"router@{report.start}"
    return f"router@{report.router} compared with {since}"


def reason(task: TaskReport, margin: float) -> str:
    """Why a task has its verdict, in one sentence."""
    change = task.change
    if task.verdict_expert == "changed":
        return "The stored expert is not the one that was measured."
    if task.unread is not None:
        return f"Its rows could not be routed again: {task.unread}."
    if task.verdict_routed is None:
        return "There is nothing to compare with yet."
    if _apart(task):
        return "Its expert and the one before have no evaluation row in common, or none alike."
    if change is None:
        return "The router reported on does not know this task, so it sends no row to it."
    if task.verdict_routed == "identical":
        return f"None of {count(change.n, 'row')} is sent elsewhere."
    moved = f"{change.flips} of {count(change.n, 'row')} sent elsewhere"
    if task.is_new_expert:
        moved = f"{count(change.n, 'row')} that {task.start_expert} was measured on too"
    if change.method != "jackknife-t":
        moved += f": {change.losses} lost, {change.gains} gained"
    elif change.losses or change.gains:
        moved += f": {change.losses} get no value any more, {change.gains} get one again"
    if task.verdict_routed == "preserved":
        return f"{moved}; a loss of {points(margin)} or more is ruled out at 95%."
    if task.verdict_routed == "lost":
        return (
            f"{moved}; more than chance explains, and a loss of {points(margin)} or more is not "
            "ruled out."
        )
    if change.margin_provable is None:
        return f"{moved}; the change is not defined."
    text = f"{moved}; alone these rows rule out a loss of {points(change.margin_provable)}"
    if change.margin_possible is not None and change.margin_possible > margin:
        text += f", and so few could never rule out less than {points(change.margin_possible)}"
    return text + "."


EXPLANATIONS: tuple[tuple[str, str], ...] = (
    (
        "Quality",
        "Accuracy; Pearson's correlation for regression, which is listed and part of no average.",
    ),
    (
        "Right when routed",
        "A row counts as right only if the router chose an expert of the row's own task (or its "
        "group) and that expert's answer is right. A misrouted row of a regression task is given "
        "the mean of all answered values; that such a task is preserved must be shown of the share "
        "of its rows that reach it too.",
    ),
    (
        "Regrouped",
        "Which tasks answer together is a router's own and may change. Earlier routers are "
        "counted by the groups of the router reported on: where tasks came together, a row that "
        "went to any of them was sent home. Where tasks were taken apart that cannot be told, and "
        "the earlier router is counted as it answered.",
    ),
    (
        "Interval of the change",
        "Gained minus lost rows over all rows, with a 90% score interval for matched pairs "
        "(Tango, Statistics in Medicine 17, 1998). Clustered rows and regression: Student's "
        "test on what each cluster or row says, with one more counted as lost.",
    ),
    (
        "Preserved",
        "One-sided non-inferiority test at 5% against a loss of the margin or more: the larger of "
        "the score test's p-value and its exact worst case over all shares of discordant rows, "
        "corrected over all tasks (Holm, 1979).",
    ),
    (
        "Lost",
        "One-sided exact McNemar test at 5% that rows were lost more often than gained, corrected "
        "over all tasks (Holm), where the loss is not shown to be within the margin.",
    ),
    (
        "Average accuracy",
        "Mean over tasks of the matrix's last row (Lopez-Paz and Ranzato, 2017).",
    ),
    (
        "Backward transfer",
        "Mean over earlier tasks of accuracy now minus accuracy under the task's first router "
        "(Lopez-Paz and Ranzato, 2017).",
    ),
    (
        "Forgetting",
        "Mean over earlier tasks of the best earlier accuracy minus accuracy now (Chaudhry and "
        "others, 2018). Negative means better than ever.",
    ),
    (
        "Routing regret",
        "Mean over tasks of accuracy with the task given minus accuracy with the router choosing.",
    ),
)
"""What the page says of figures that are not columns; the columns say it of themselves."""
