"""``unknowns``: what comes next."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from expertbank.config import TYPICAL_ROWS, UNKNOWN_GROUPS
from expertbank.reports.figures import share
from expertbank.settings import build

from .answering import answering
from .left_out import LeftOut
from .options import OF_LABELS, DataOptions, path, takes
from .render import Table, print_facts, print_table, printable
from .session import Session
from .shared_options import Backbone, SkipBad

if TYPE_CHECKING:
    from collections.abc import Iterator

    from expertbank.workflows.answering.unknown_groups import Unknowns

_TABLE = Table(
    ("group", "rows", "share", "nearest task", "sent there", "typical rows"),
    numeric=("group", "rows", "share", "sent there"),
    wrapped=("typical rows",),
    dropped=("sent there", "share"),
)
_OTHERS = 52
"""Columns of a terminal that are left to what stands beside the rows."""
_NARROWEST, _WIDEST = 32, 100
"""Columns that a typical row may take."""


@takes(DataOptions, without=OF_LABELS)
def unknowns(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            help="Rows, in any format that `predict --file` reads, or the log of `serve "
            "--log-texts`; - is standard input."
        ),
    ],
    bundle: Annotated[
        Path | None, typer.Option(parser=path, help="Ask this bundle; no bank is needed.")
    ] = None,
    groups: Annotated[
        int, typer.Option(min=1, help="Show so many of the largest groups.")
    ] = UNKNOWN_GROUPS,
    typical: Annotated[int, typer.Option(min=1, help="Show so many rows of each.")] = TYPICAL_ROWS,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            help="Write the rows of these groups as JSON lines, to label them; nothing else keeps "
            "a text.",
        ),
    ] = None,
    skip_bad: SkipBad = False,
    backbone: Backbone = None,
    **given: Any,
) -> None:
    """Group what the bank calls unknown: the next expert to train.

    Every row is routed, also those of a log, by the router that is active now. Those called
    unknown are grouped by likeness; for each group you see rows that are typical of it and the
    known task that the router takes it for. Label the rows that --out writes, and add them:
    expertbank add --task NAME --data FILE.

    Example: expertbank unknowns serve.log --out next.jsonl
    """
    from expertbank.data import asked_rows, most_rows

    session: Session = context.obj
    options = build(DataOptions, given)
    with ExitStack() as stack:
        asked = asked_rows(
            file,
            options.columns(),
            options.read_as(),
            refuse=not skip_bad,
            remark=lambda text: session.remark(f"note: {text}"),
        )
        _, load = answering(session, stack, bundle, backbone)
        predictor = load()
        from expertbank.workflows.answering.unknowns import unknowns as group

        progress = stack.enter_context(session.progress())
        left_out = LeftOut(session)
        found = group(
            predictor,
            asked.rows,
            groups=groups,
            typical=typical,
            out=out,
            on_bad=left_out if skip_bad else None,
            progress=progress,
            total=most_rows(file) if asked.read_from == "rows" else 0,
        )
        if out is not None and found.groups:
            session.did(f"{out} was written")
    left_out.others = found.rows
    left_out.tell()
    document = {"read_from": asked.read_from, **found.to_dict()}
    session.answer(document, lambda console: _show(console, found, asked.read_from))
    if not found.groups:
        session.remark("next: nothing; no group of rows is unknown")
    elif out is not None:
        command = f"expertbank add --task NAME --data {shlex.quote(str(out))}"
        session.remark(f"next: label rows of {out}, then: {command}")
    else:
        session.remark("next: --out FILE writes these groups' rows, to be labelled and added")


def _show(console: Console, found: Unknowns, read_from: str) -> None:
    print_facts(console, list(_facts(found, read_from)))
    if found.groups:
        print_table(console, _TABLE, _lines(found, _room(console)))


def _facts(found: Unknowns, read_from: str) -> Iterator[tuple[str, str]]:
    where = " of a server's log" if read_from == "log" else ""
    yield "rows", f"{found.rows:,}{where}"
    if not found.unknown:
        yield "unknown", "none: every row is like a task of the bank"
        return
    repeated = found.unknown - found.distinct - found.not_compared
    more = f", {repeated:,} of them repetitions" if repeated > 0 else ""
    yield "unknown", f"{found.unknown:,} ({share(found.unknown / found.rows)}){more}"
    others = found.groups_found - len(found.groups)
    hidden = f", {others:,} smaller ones of {found.in_other_groups:,} rows not shown"
    yield "groups", f"{found.groups_found:,}{hidden if others else ''}"
    if found.groups and found.width_from == "known":
        yield "", "nearly as wide as the tasks that the known rows belong to"
    elif found.groups:
        yield "", "as the unknown rows divide: too few known ones tell how wide a task is"
    yield "alone", f"{found.alone:,} rows like too few others to be a group"
    if found.sampled < found.distinct:
        yield (
            "made from",
            f"{found.sampled:,} of {found.distinct:,} distinct rows; the others went to the "
            "nearest group",
        )
    if found.not_compared:
        yield "left out", f"{found.not_compared:,} rows beyond {found.distinct:,} distinct ones"


def _room(console: Console) -> int:
    """Columns for a typical row."""
    wide = _WIDEST if console.soft_wrap else console.width - _OTHERS
    return min(max(wide, _NARROWEST), _WIDEST)


def _lines(found: Unknowns, room: int) -> Iterator[tuple[object, ...]]:
    for group in found.groups:
        nearest = group.nearest[0]
        start: tuple[object, ...] = (
            group.number,
            f"{group.rows:,}",
            share(group.share),
            nearest.task,
            share(nearest.share),
        )
        for row in group.typical:
            text = row.text if row.text_pair is None else f"{row.text} | {row.text_pair}"
            yield (*start, _cut(text, room))
            start = ("",) * len(start)


def _cut(text: str, room: int) -> str:
    """A text on one line, and no wider than ``room``."""
    line = printable(" ".join(text.split()))
    return line if cell_len(line) <= room else f"{set_cell_size(line, room - 1).rstrip()}…"
