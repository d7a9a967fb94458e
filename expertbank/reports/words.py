"""What a forgetting report says, in words: the same sentences on a terminal, in a page, in text."""

from __future__ import annotations

from collections.abc import Sequence

from expertbank.evaluation.forgetting import ForgettingReport, TaskReport
from expertbank.evaluation.verdicts import Verdict

DASH = "\u2013"
"""Where there is no figure."""
MINUS = "\u2212"

MEANINGS: dict[Verdict, str] = {
    "identical": "no row is sent elsewhere, so every answer is the one given before",
    "preserved": "shown at 95% that the loss is smaller than the margin",
    "inconclusive": "neither a loss nor its absence could be shown with these rows",
    "lost": "shown at 95% that quality fell, and not shown that it fell by less than the margin",
}


def points(share: float) -> str:
    """A share as percentage points: ``1 point``, ``2.5 points``."""
    shown = f"{100 * share:.3g}"
    return f"{shown} point" if shown == "1" else f"{shown} points"


def headline(report: ForgettingReport) -> str:
    """The verdict in a few words."""
    if not report.weights_unchanged:
        return "Stored experts have changed"
    return {
        None: "Nothing to compare yet",
        "identical": "Nothing was forgotten: every choice is as it was",
        "preserved": "Nothing was forgotten beyond the margin",
        "inconclusive": "Not proved",
        "lost": "Something was lost",
    }[report.verdict]


def summary(report: ForgettingReport) -> str:
    """The verdict in one or two sentences, naming the tasks that decide it."""
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
        return (
            f"{weights} No loss was shown, but for {listing(named['inconclusive'])} these rows "
            f"cannot prove that it is below {margin}. More evaluation rows, or a wider margin, "
            "would decide it."
        )
    unsure = named["inconclusive"]
    more = f" {listing(unsure)} could not be decided." if unsure else ""
    return f"{weights} Routing now costs accuracy on {listing(named['lost'])}.{more}"


def compared(report: ForgettingReport) -> str:
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
    if task.verdict_routed is None:
        return "There is nothing to compare with yet."
    if change is None:
        return "The router reported on does not know this task, so it sends no row to it."
    if task.verdict_routed == "identical":
        return f"None of {count(change.n, 'row')} is sent elsewhere."
    moved = f"{change.flips} of {count(change.n, 'row')} sent elsewhere"
    if task.metric == "accuracy":
        moved += f": {change.losses} lost, {change.gains} gained"
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


def count(number: int, noun: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listing(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *most, last = names or ("",)
    return f"{', '.join(most)} and {last}" if most else last


def share(value: float | None) -> str:
    """A fraction with three decimals, or a dash."""
    return DASH if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """A difference with its sign, or a dash."""
    if value is None:
        return DASH
    return f"{value + 0.0:+.3f}".replace("-", MINUS)


def p_value(value: float | None) -> str:
    """A p-value with two digits that matter, or a dash."""
    if value is None:
        return DASH
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def interval(task: TaskReport) -> str:
    """The interval of the change, or a dash."""
    bounds = task.change.interval if task.change else None
    return DASH if bounds is None else f"{signed(bounds[0])} to {signed(bounds[1])}"


METHODS = {
    "score": "score test",
    "cluster-bootstrap": "BCa, clusters",
    "bootstrap": "BCa",
}

EXPLANATIONS: tuple[tuple[str, str], ...] = (
    (
        "Right when routed",
        "A row counts as right only if the router chose an expert of the row's own task (or its "
        "group) and that expert's answer is right. A misrouted row of a regression task is given "
        "the mean of all answered values.",
    ),
    (
        "At add, named now",
        "Quality of the named expert on its evaluation rows when it was added, and now: from "
        "stored answers, or measured again where verification ran all rows. Accuracy; Pearson's "
        "correlation for regression.",
    ),
    (
        "Before, after",
        "Routed quality under the router compared with and under the router reported on.",
    ),
    (
        "Flips",
        "Rows whose choice differs between the two routers. Experts are frozen, so no accuracy "
        "can have moved by more than the share of flips.",
    ),
    (
        "Change and its interval",
        "Gained minus lost rows over all rows, with a 90% score interval for matched pairs "
        "(Tango, Statistics in Medicine 17, 1998): each end is a one-sided 95% bound. Clustered "
        "rows and regression: BCa bootstrap (Efron, JASA 82, 1987), 9,999 resamples, fixed seed.",
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
        "Provable margin",
        "The smallest margin that the task's rows, taken alone, prove at 95%. With no row lost, "
        "n rows prove 1 - 0.05^(1/n): 299 rows are needed for 0.01.",
    ),
    (
        "McNemar's p",
        "Two-sided, exact. Shown for comparison: a large value is no evidence that nothing was "
        "lost.",
    ),
    (
        "Average accuracy",
        "Mean over tasks of the matrix's last row (Lopez-Paz and Ranzato, 2017).",
    ),
    (
        "Without the candidate mask",
        "A row can go only to experts trained on such rows: those for rows with choices, those "
        "for a single text, those for a pair. These figures are those of a gate of the same kind, "
        "fitted with every expert a candidate for every row. That gate is measured when the "
        "router is fitted and then dropped: its choices are recounted here, but --verify does "
        "not fit it again. A dash: nothing of it is kept, as where the bank keeps statistics only.",
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
        "Mean over tasks of accuracy with the expert named minus accuracy with the router "
        "choosing.",
    ),
)
