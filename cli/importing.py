"""``import``: experts of another bank."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .collecting import DryRun
from .following import RETRAIN
from .options import path
from .render import Table, print_table, short
from .session import Session


def import_bundle(
    context: typer.Context,
    bundle: Annotated[
        Path,
        typer.Argument(
            parser=path, help="Folder that `export --for-import` wrote, or a .zip of it."
        ),
    ],
    task: Annotated[
        list[str] | None, typer.Option(help="Only this task; may be given several times.")
    ] = None,
    new_version: Annotated[
        bool, typer.Option("--new-version", help="Allow a further version of a known task.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Take experts over from another bank's bundle.

    With their lineage, features and evidence, so that the next router routes to them and the
    report counts them. Everything is checked before anything is written; an archive is read
    member by member and never unpacked.

    Example: expertbank import ./bundle-of-another-team --task tickets
    """
    session: Session = context.obj
    with (
        session.bank(create=not dry_run, read_only=dry_run) as bank,
        session.progress() as progress,
    ):
        done = bank.import_bundle(
            bundle,
            tasks=tuple(task or ()),
            new_version=new_version,
            dry_run=dry_run,
            progress=progress,
        )
        left = RETRAIN if done.imported and not dry_run else ""
        if left:
            session.did(f"imported {', '.join(one.id for one in done.imported)}")

    def show(console: Console) -> None:
        word = "would be imported" if dry_run else "imported"
        print_table(
            console,
            Table(("expert", "digest", "what"), wrapped=("what",)),
            [
                *((expert.id, short(expert.digest), word) for expert in done.imported),
                *((skipped.expert, "", f"skipped: {skipped.why}") for skipped in done.skipped),
            ],
        )

    session.answer(done.to_dict() | {"todo": left}, show)
    for remark in done.remarks:
        session.remark(f"note: {remark}")
    if left:
        session.remark(f"next: {left}")
