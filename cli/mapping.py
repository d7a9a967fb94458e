"""``map``: where the bank's tasks lie beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from expertbank.files.durable import write_named
from expertbank.reports.bank_map import HEADINGS, BankMap
from expertbank.settings import build

from . import completing
from .forgetting import check_writable
from .options import OF_LABELS, DataOptions, path, takes
from .render import Table, print_lines, print_table
from .session import Session


@takes(DataOptions, without=OF_LABELS)
def bank_map(
    context: typer.Context,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these tasks; may be given several times.", autocompletion=completing.tasks
        ),
    ] = None,
    router: Annotated[
        str,
        typer.Option(help="Router whose tasks to show.", autocompletion=completing.routers),
    ] = "active",
    svg: Annotated[
        Path | None, typer.Option(parser=path, help="Write the drawing to this file too.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            help="Rows to place on the map of the active router, in any format that `predict "
            "--file` reads, at most 2,000; - is standard input."
        ),
    ] = None,
    **given: Any,
) -> None:
    """Show where tasks lie beside each other, and which lie close.

    With --file also where those rows lie, and which of them are unknown.

    Numbers are in deviations of the covariance that all tasks share. The drawing stands in
    `forgetting-report --verify --html` too, and on the page of `serve`.

    Example: expertbank map --svg map.svg
    """
    session: Session = context.obj
    if svg is not None:
        check_writable(svg)
    rows = None
    if file is not None:
        from expertbank.data import asked_rows

        options = build(DataOptions, given)
        rows = asked_rows(
            file,
            options.columns(),
            options.read_as(),
            refuse=True,
            remark=lambda text: session.remark(f"note: {text}"),
        ).rows
    with session.bank(read_only=True) as bank, session.progress() as progress:
        found = bank.map(router, task or (), rows=rows, progress=progress)
    if svg is not None:
        write_named(svg, found.svg.encode())
        session.did(f"{svg} was written")
    session.answer(found.to_dict(), lambda console: _print(console, found))


def _print(console: Console, found: BankMap) -> None:
    print_table(
        console,
        Table(
            HEADINGS, numeric=HEADINGS[1:5] + HEADINGS[6:], dropped=("spread up", "spread across")
        ),
        [cloud.row for cloud in found.clouds],
    )
    print_lines(console, [found.caption, found.closest, *filter(None, [found.placed])])
