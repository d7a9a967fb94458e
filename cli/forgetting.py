"""How ``forgetting-report`` shows, writes and enforces its result."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from expertbank.files.durable import write_named
from expertbank.reports.figures import share

from .render import TONES, Table, print_facts, print_table, printable
from .session import Session

if TYPE_CHECKING:
    from expertbank.reports.forgetting import ForgettingReport

_DROPPED = (
    "margin_provable",
    "flip_rate",
    "majority",
    "at_add",
    "n",
    "routed_before",
    "oracle",
    "beats_majority",
)
"""Columns that a narrow terminal leaves out, the first one first."""
_TONED = ("verdict", "beats_majority")


LEVELS = ("lost", "inconclusive", "unverifiable")
"""What ``--fail-on`` takes: a loss; a loss or none proved; a row that could not be run again."""


def print_report(console: Console, report: ForgettingReport) -> None:
    """Print the verdict as a sentence, then a line a task, then the figures over all."""
    from expertbank.reports import words
    from expertbank.reports.columns import shown
    from expertbank.reports.regrouping import regrouping

    console.print(
        printable(f"{report.state or 'no verdict'}: {words.headline(report)}"),
        markup=False,
        style=f"bold {TONES.get(report.state or '', '')}".strip(),
    )
    for said in (words.summary(report), *regrouping(report)):
        console.print(printable(said), markup=False)
    console.print()
    columns = shown("tasks")
    print_table(
        console,
        Table(
            [column.heading for column in columns],
            numeric=[column.heading for column in columns if column.numeric],
            dropped=[
                column.heading for name in _DROPPED for column in columns if column.name == name
            ],
            title=f"Forgetting report: {words.compared(report)}",
            toned=[column.heading for column in columns if column.name in _TONED],
        ),
        ([column.text(task) for column in columns] for task in report.tasks),
    )
    print_facts(console, words.facts(report))
    for task in report.tasks:
        if task.verdict_routed in {"lost", "inconclusive"}:
            why = words.reason(task, report.margin)
            console.print(printable(f"{task.verdict_routed} {task.task}: {why}"), markup=False)
    for name, found in (report.verification or {}).items():
        console.print(printable(words.verified(name, found)), markup=False)


def markdown_of(report: ForgettingReport) -> str:
    """The report as Markdown, with the moment it was made."""
    from expertbank.reports.markdown import forgetting_markdown

    return forgetting_markdown(report, made_at=_now())


def _page_of(report: ForgettingReport) -> str:
    from expertbank.reports.html import forgetting_page

    return forgetting_page(report, made_at=_now())


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold.

    Raises:
        InputError: it cannot be written.
    """
    from expertbank.errors import InputError

    if str(path) == "-":
        raise InputError("standard output holds the answer, and no file beside it; name a file")
    try:
        if not path.exists():
            with path.open("xb"):
                pass
            path.unlink()
        elif path.is_file() or path.is_dir():  # a pipe or device would wait for its reader
            path.open("ab").close()
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; name a file in a folder that "
            "exists and can be written to"
        ) from error


def write_reports(
    session: Session, report: ForgettingReport, *, html: Path | None, markdown: Path | None
) -> OSError | None:
    """Write the files that were asked for.

    Returns:
        What went wrong, if anything did: to be raised once the report was shown.
    """
    failed = None
    for path, made in ((html, _page_of), (markdown, markdown_of)):
        if path is None:
            continue
        try:
            write_named(path, made(report).encode(errors="backslashreplace"))
        except OSError as error:
            failed = error
        else:
            session.remark(f"wrote {path}")
    return failed


def require(
    report: ForgettingReport, levels: Collection[str], max_regret: float | None = None
) -> None:
    """Fail where the report must not pass.

    Args:
        report: what was found.
        levels: which of ``LEVELS`` fail it.
        max_regret: what the router may cost a task, where that fails it.

    Raises:
        IntegrityError: stored experts changed; whatever was asked for.
        GateFailedError: it is what one of the levels names, or the router costs more; the message
            says all that is.
    """
    from expertbank.errors import GateFailedError, IntegrityError

    if not report.weights_unchanged:
        changed = [task.expert for task in report.tasks if task.verdict_expert == "changed"]
        raise IntegrityError(
            f"the stored files of {', '.join(changed)} no longer match their digests; "
            "restore them from a backup (expertbank verify names the files)"
        )
    failed = [
        f"--fail-on {level}: {found}"
        for level in LEVELS
        if level in levels and (found := _failing(report, level))
    ]
    if max_regret is not None and (found := _costing(report, max_regret)):
        failed.append(f"--max-regret {max_regret:g}: {found}")
    if failed:
        raise GateFailedError("\n".join(failed))


def _costing(report: ForgettingReport, most: float) -> str | None:
    """Which tasks the router costs more than ``most``, and what to do; ``None`` for none."""
    costly = [task for task in report.tasks if task.regret is not None and task.regret > most]
    if not costly:
        return None
    named = ", ".join(f"{task.task} {share(task.regret)}" for task in costly)
    return (
        f"the router costs {named}; let tasks on the same texts answer together (expertbank "
        "group), or go back with: expertbank alias active router@N"
    )


def _failing(report: ForgettingReport, level: str) -> str | None:
    """Why a report must not pass at one level, and what to do; ``None`` if it passes."""
    if level == "unverifiable":
        told = [f"{task}: {why}" for task, why in report.unverifiable.items()]
        return "; ".join(told) or None
    if level == "inconclusive" and report.verdict is None:
        return (
            "no task was compared, so nothing is proved; run retrain-router, or name other routers "
            "with --from and --to"
        )
    failed = [*report.named("lost"), *(report.named("inconclusive") if level != "lost" else ())]
    if not failed:
        return None
    return (
        f"{', '.join(failed)}; look at the report, add evaluation rows, widen --margin, or go back "
        "with: expertbank alias active router@N"
    )


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
