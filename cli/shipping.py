"""``expertbank export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expertbank.config import ExportFormat

from . import completing
from .options import path
from .render import print_facts, short, size
from .session import Session
from .shared_options import Backbone


def export(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(parser=path, help="Folder to write.")] = Path(
        "expertbank-bundle"
    ),
    export_format: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="bundle predicts without the bank; peft is LoRA adapters for PEFT and vLLM, gguf "
            "for llama.cpp.",
        ),
    ] = "bundle",
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this task; may be given several times.", autocompletion=completing.tasks
        ),
    ] = None,
    with_backbone: Annotated[
        bool, typer.Option("--with-backbone", help="Put the backbone's files inside too.")
    ] = False,
    for_import: Annotated[
        bool,
        typer.Option(
            "--for-import",
            help="Put features (made from the rows trained on) and evidence in for another bank.",
        ),
    ] = False,
    statistics: Annotated[
        bool,
        typer.Option(
            "--statistics",
            help="With --for-import: exact sums over the rows in place of features, and no row.",
        ),
    ] = False,
    backbone: Backbone = None,
) -> None:
    """Ship one verified folder.

    A bundle predicts without the bank; its logits are compared with the bank's before it takes
    its name. With --format peft or gguf: one folder per expert with its exact LoRA factors, put
    into the model that other programs load and compared there, and its head or how its answers
    are written. A folder of the same format that is there is replaced; anything else is left alone.

    Example: expertbank export ./expertbank-bundle
    """
    session: Session = context.obj
    with (
        session.bank(read_only=not session.writable, backbone=backbone) as bank,
        session.progress() as progress,
    ):
        result = bank.export(
            folder,
            format=export_format,
            tasks=tuple(task or ()),
            with_backbone=with_backbone,
            for_import=for_import,
            statistics=statistics,
            progress=progress,
        )
    compared = "logits equal the bank's on probe rows"
    if result.effects:
        model = result.effects[0]["model"]
        compared = f"in {model} the adapters take effect, and give the bank's states"
    session.answer(
        result.to_dict(),
        lambda console: print_facts(
            console,
            [
                (result.format, result.path),
                ("digest", short(result.digest)),
                ("experts", ", ".join(sorted(result.experts))),
                ("router", f"router@{result.router_version}"),
                ("size", size(result.bytes)),
                ("verified", compared),
            ],
        ),
    )
    if not result.recorded:
        session.remark("warning: the bank is read-only: the export is not recorded in its history")
