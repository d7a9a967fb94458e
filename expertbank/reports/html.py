"""The forgetting report as one self-contained page: no script, no network.

Equal reports give equal bytes. Everything that comes from data (names of tasks, files and models)
is escaped. The page's own policy forbids loading anything at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from expertbank.evaluation.forgetting import ForgettingReport, TaskReport
from expertbank.evaluation.metrics import route_confusion
from expertbank.reports import words
from expertbank.reports.style import CSS
from expertbank.reports.svg import before_and_after, change_with_interval
from expertbank.reports.words import DASH, interval, p_value, share, signed

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def forgetting_page(report: ForgettingReport, *, made_at: str = "") -> str:
    """The page as text.

    Args:
        report: what to show.
        made_at: moment to state on the page; the only thing that the report does not decide.
    """
    sections = [
        ("tasks", "Tasks", _tasks(report)),
        ("tests", "Evidence for the verdicts", _tests(report)),
        ("figures", "Before, after and change", _figures(report)),
        ("matrix", "Accuracy matrix", _matrix(report)),
        ("routes", "Where rows are sent", _confusion(report)),
        ("verification", "Rows run again", _verification(report.verification)),
        ("lineage", "Lineage and digests", _lineage(report)),
        ("method", "How each figure is worked out", _method()),
    ]
    there = [section for section in sections if section[2]]
    links = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title, _ in there)
    body = "".join(
        f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(title)}</h2>{text}</section>\n'
        for name, title, text in there
    )
    state = _state(report)
    made = f" Made {escape(made_at)}." if made_at else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Forgetting report: {escape(words.headline(report))}</title>\n"
        f"<style>{CSS}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#tasks">Skip to the tasks</a>\n'
        f'<header><h1>Forgetting report</h1><p class="soft">{escape(words.compared(report))}; '
        f"margin {escape(words.points(report.margin))} of accuracy.{made}</p>\n"
        f'<div class="verdict {state}"><p class="name">{state if state != "none" else "no verdict"}'
        f'</p><p class="head">{escape(words.headline(report))}</p>'
        f"<p>{escape(words.summary(report))}</p></div>\n"
        f"{_facts(report)}"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f"<main>\n{body}</main>\n"
        '<footer class="soft">Written by expertbank from stored evidence; every file named above '
        "was hashed again while this report was made.</footer>\n</body>\n</html>\n"
    )


def _state(report: ForgettingReport) -> str:
    return "changed" if not report.weights_unchanged else report.verdict or "none"


def _facts(report: ForgettingReport) -> str:
    unchanged = "unchanged" if report.weights_unchanged else "CHANGED"
    facts = [
        ("Expert weights", unchanged),
        ("Average accuracy", share(report.average_accuracy)),
        ("Without the candidate mask", share(report.average_accuracy_unmasked)),
        ("Backward transfer", signed(report.backward_transfer)),
        ("Forgetting", signed(report.forgetting)),
        ("Routing regret", share(report.routing_regret)),
    ]
    inside = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{inside}</dl>\n'


def _tasks(report: ForgettingReport) -> str:
    columns = (
        ("Task", ""),
        ("Verdict", ""),
        ("Rows", "num"),
        ("Named, at add", "num"),
        ("Named, now", "num"),
        ("Routed, before", "num"),
        ("Routed, now", "num"),
        ("Without mask", "num"),
        ("Change", "num"),
    )
    bodies = "".join(_task(task, report.margin, len(columns)) for task in report.tasks)
    caption = "Quality of each task, with the expert named and with the router choosing."
    head = "".join(f'<th scope="col" class="{kind}">{name}</th>' for name, kind in columns)
    return _scroll(
        "tasks",
        f"<table><caption><span>{caption}</span></caption><thead><tr>{head}</tr></thead>{bodies}</table>",
    )


def _task(task: TaskReport, margin: float, width: int) -> str:
    state = "changed" if task.verdict_expert == "changed" else task.verdict_routed or "none"
    cells = [
        f"{task.n:,}",
        share(task.at_add),
        share(task.oracle),
        share(task.routed_at_add),
        share(task.routed),
        share(task.routed_unmasked),
        signed(task.difference),
    ]
    numbers = "".join(f'<td class="num">{escape(cell)}</td>' for cell in cells)
    notes = [words.reason(task, margin)]
    if task.metric == "pearson":
        notes.append("Regression: Pearson's correlation; not part of any average.")
    return (
        f'<tbody class="{state}"><tr><th scope="row">{escape(task.expert)}</th>'
        f'<td><span class="tag">{state if state != "none" else "no verdict"}</span></td>{numbers}'
        f'</tr><tr class="why"><td colspan="{width}">{escape(" ".join(notes))}</td></tr></tbody>'
    )


def _tests(report: ForgettingReport) -> str:
    rows = []
    for task in report.tasks:
        change, judged = task.change, task.judged
        if change is None or judged is None:
            continue
        pairs = f"{change.losses} / {change.gains}" if task.metric == "accuracy" else DASH
        clusters = f", {change.clusters} clusters" if change.clusters is not None else ""
        rows.append(
            (
                task.expert,
                f"{change.n:,}{clusters}",
                f"{change.flips:,}",
                pairs,
                interval(task),
                share(change.margin_provable),
                p_value(judged.p_noninferiority_adjusted),
                p_value(judged.p_loss_adjusted),
                p_value(change.p_mcnemar),
                words.METHODS[change.method],
            )
        )
    if not rows:
        return ""
    columns = (
        "Task",
        "Rows compared",
        "Flips",
        "Lost / gained",
        "90% interval",
        "Provable margin",
        "p, preserved",
        "p, lost",
        "p, McNemar",
        "Method",
    )
    caption = (
        "What the verdicts rest on. The p-values of preserved and lost are corrected over all "
        "tasks (Holm); interval, provable margin and McNemar's p are of the task alone."
    )
    return _scroll("tests", _table(caption, columns, rows, numeric=range(1, 9)))


def _figures(report: ForgettingReport) -> str:
    if report.router is None:
        return ""
    first = _figure(
        "Routed quality on a scale from 0 to 1. Ring: under the router compared with. Disc: now.",
        before_and_after(report.tasks),
    )
    if not any(task.change and task.change.change is not None for task in report.tasks):
        return first
    second = _figure(
        "Change of routed quality with its 90% interval. Dashed line: the margin. An interval "
        "that ends right of it rules out a larger loss for the task taken alone.",
        change_with_interval(report.tasks, report.margin),
    )
    return first + second


def _figure(caption: str, svg: str) -> str:
    return (
        f'<figure tabindex="0" aria-label="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption>{svg}</figure>"
    )


def _matrix(report: ForgettingReport) -> str:
    if not report.matrix:
        return ""
    names = [task.task for task in report.tasks]
    rows = [
        (f"router@{version}", [_heat(value) for value in row])
        for version, row in zip(report.routers, report.matrix, strict=True)
    ]
    caption = (
        "Routed accuracy of every router on every task, oldest router first. A dash: the router "
        "did not know the task, or the task is a regression."
    )
    return _heat_table("matrix", caption, "Router", names, rows)


def _confusion(report: ForgettingReport) -> str:
    found = report.confusion
    if found is None:
        return ""
    shares = route_confusion(found.counts)
    rows = [
        (
            task,
            [
                _heat(value, own=task in column.split(" + "))
                for value, column in zip(row, found.columns, strict=True)
            ],
        )
        for task, row in zip(found.tasks, shares, strict=True)
    ]
    caption = (
        f"Share of each task's evaluation rows (lines) that router@{report.router} sends to each "
        "expert or group (columns); the task's own in bold."
    )
    return _heat_table("routes", caption, "Rows of", found.columns, rows)


def _heat(value: float | None, *, own: bool = False) -> str:
    if value is None:
        return f'<td class="empty">{DASH}</td>'
    text = f"{value:.3f}" if 0 < value < 1 else f"{value:.0f}"
    kind = ' class="own"' if own else ""
    return f'<td{kind} style="--v:{value:.3f}">{text}</td>'


def _heat_table(
    name: str,
    caption: str,
    corner: str,
    columns: Sequence[str],
    rows: Iterable[tuple[str, Sequence[str]]],
) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(row)}</th>{"".join(cells)}</tr>' for row, cells in rows
    )
    return _scroll(
        name,
        f'<table class="heat"><caption><span>{escape(caption)}</span></caption><thead><tr>'
        f'<th scope="col">{escape(corner)}</th>{head}</tr></thead><tbody>{body}</tbody></table>',
    )


def _verification(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return (
            "<p>No row was run again for this report: it rests on the answers stored when each "
            "expert was added. Experts, routers and evidence were rehashed.</p>"
        )
    rows = [
        (
            task,
            f"{entry['rows']:,} of {entry['of']:,}",
            f"{entry['unverifiable']:,}",
            f"{len(entry['within_tolerance']):,}",
            f"{entry['max_logit_difference']:.2g}",
            "the same" if entry["same_environment"] else "another",
        )
        for task, entry in found.items()
    ]
    columns = (
        "Task",
        "Rows run again",
        "Unverifiable (source gone)",
        "Within tolerance",
        "Largest logit difference",
        "Environment",
    )
    return _scroll(
        "verification",
        _table(
            "Rows passed through the real backbone again, after its weights were hashed; any "
            "other answer would have ended the report with an error that names the row.",
            columns,
            rows,
            range(1, 5),
        ),
    )


def _lineage(report: ForgettingReport) -> str:
    lineage = report.lineage
    if lineage is None:
        return ""
    spec = ", ".join(
        f"{name} {value}"
        for name, value in lineage.feature_spec.items()
        if name != "backbone_digest"
    )
    packages = ", ".join(f"{name} {number}" for name, number in lineage.packages.items())
    experts = [
        (
            expert.id,
            _Digest(expert.digest),
            expert.added_at[:19].replace("T", " "),
            expert.source,
            _Digest(expert.data.get("validation", DASH)),
            _Digest(expert.evidence),
        )
        for expert in lineage.experts
    ]
    routers = [
        (
            f"router@{router.version}",
            router.kind,
            _Digest(router.digest),
            router.trained_at[:19].replace("T", " "),
            ", ".join(router.members),
        )
        for router in lineage.routers
    ]
    return (
        f"<p>Backbone {escape(lineage.backbone)}, digest "
        f'<span class="digest">{escape(lineage.backbone_digest)}</span>.</p>'
        f'<p class="soft">Feature spec: {escape(spec)}. Reported with {escape(packages)}.</p>'
        + _scroll(
            "lineage",
            _table(
                "Experts; digests are SHA-256 over stored bytes",
                (
                    "Expert",
                    "File (cores, head, labels)",
                    "Added (UTC)",
                    "Source of its rows",
                    "Evaluation rows",
                    "Stored answers",
                ),
                experts,
            ),
            "Experts",
        )
        + _scroll(
            "lineage",
            _table(
                "Routers",
                ("Router", "Gate", "File (gate, members)", "Trained (UTC)", "Members"),
                routers,
            ),
            "Routers",
        )
    )


class _Digest(str):
    """Text shown in the digests' type."""

    __slots__ = ()


def _table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    numeric: Collection[int] = (),
) -> str:
    head = "".join(
        f'<th scope="col"{_number(place in numeric)}>{escape(column)}</th>'
        for place, column in enumerate(columns)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(_cell(text, number=place in numeric) for place, text in enumerate(rest, 1))
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f"<table><caption><span>{escape(caption)}</span></caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _number(number: bool) -> str:
    return ' class="num"' if number else ""


def _cell(text: str, *, number: bool) -> str:
    if isinstance(text, _Digest):
        return f'<td><span class="digest">{escape(text)}</span></td>'
    return f"<td{_number(number)}>{escape(text)}</td>"


def _scroll(name: str, table: str, label: str = "") -> str:
    """A table in a container of its own that scrolls, by keyboard too."""
    named = f'aria-label="{escape(label)}"' if label else f'aria-labelledby="{name}"'
    return f'<div class="scroll" role="region" tabindex="0" {named}>{table}</div>'


def _method() -> str:
    inside = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in words.EXPLANATIONS
    )
    return f'<dl class="how">{inside}</dl>'
