"""The forgetting report as Markdown for a pull request."""

from __future__ import annotations

import re

from expertbank.evaluation.forgetting import ForgettingReport
from expertbank.reports import words
from expertbank.reports.words import DASH, interval, share, signed

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&@-])")


def forgetting_markdown(report: ForgettingReport, *, made_at: str = "") -> str:
    """The report as GitHub-flavoured Markdown; equal reports give equal text.

    Args:
        report: what to show.
        made_at: moment to state, if any.
    """
    state = "changed" if not report.weights_unchanged else report.verdict or "no verdict"
    lines = [
        f"## Forgetting report: {state}",
        "",
        f"**{words.headline(report)}.** {_plain(words.summary(report))}",
        "",
        f"{_plain(words.compared(report).capitalize())}; margin {words.points(report.margin)} of "
        f"accuracy{f'; made {_plain(made_at)}' if made_at else ''}.",
        "",
        "| task | verdict | rows | named, now | routed before | routed now "
        "| without mask | change "
        "| 90% interval | flips | provable margin |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for task in report.tasks:
        change = task.change
        verdict = task.verdict_routed if task.verdict_expert == "identical" else "changed"
        cells = (
            _plain(task.expert) + (" (r)" if task.metric == "pearson" else ""),
            verdict or DASH,
            f"{task.n:,}",
            share(task.oracle),
            share(task.routed_at_add),
            share(task.routed),
            share(task.routed_unmasked),
            signed(task.difference),
            interval(task),
            f"{change.flips}" if change else DASH,
            share(change.margin_provable) if change else DASH,
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Expert weights {'unchanged' if report.weights_unchanged else '**CHANGED**'} · "
        f"average accuracy {share(report.average_accuracy)} "
        f"(without the candidate mask {share(report.average_accuracy_unmasked)}) · "
        f"backward transfer {signed(report.backward_transfer)} · "
        f"forgetting {signed(report.forgetting)} · "
        f"routing regret {share(report.routing_regret)}",
    ]
    if report.verification is not None:
        rows = sum(entry["rows"] for entry in report.verification.values())
        gone = sum(entry["unverifiable"] for entry in report.verification.values())
        lines += ["", f"{words.count(rows, 'row')} run again, {gone:,} unverifiable."]
    if report.lineage is not None:
        lines += ["", f"Backbone `{report.lineage.backbone_digest}`."]
        lines += [f"- {_plain(e.id)} `{e.digest}`" for e in report.lineage.experts]
        lines += [f"- router@{r.version} `{r.digest}`" for r in report.lineage.routers]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Text that Markdown and HTML leave as it is."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
