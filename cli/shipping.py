"""``export`` and ``evaluate``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from expertbank.config import ExportFormat
from expertbank.kinds.labels import label_text
from expertbank.reports.figures import share
from expertbank.settings import build

from . import completing
from .options import DataOptions, path, takes
from .render import Table, print_facts, print_table, short, size
from .session import Session

if TYPE_CHECKING:
    from expertbank.workflows.answering.predict import Experts, Predictor

SecondOpinion = Annotated[
    bool,
    typer.Option(
        "--second-opinion",
        help="Where the two best tasks lie close, ask both experts; such rows take two passes.",
    ),
]
Backbone = Annotated[
    str | None, typer.Option(help="Where the backbone is, if not where the bank or bundle says.")
]


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


@takes(DataOptions)
def evaluate(
    context: typer.Context,
    task: Annotated[
        str,
        typer.Option(help="Task whose answers to check.", autocompletion=completing.tasks),
    ],
    data: Annotated[str, typer.Option(help="Labelled rows: a file, a folder, hf: or pkg:.")],
    bundle: Annotated[
        Path | None, typer.Option(parser=path, help="Answer from this bundle; no bank is needed.")
    ] = None,
    second_opinion: SecondOpinion = False,
    backbone: Backbone = None,
    **given: Any,
) -> None:
    """Measure one task on new labelled rows.

    With the task named, and with the router choosing. Of a folder that has rows to train on, its
    test rows are taken, or else those to validate on.

    Example: expertbank evaluate --task tickets --data new-tickets.csv
    """
    from expertbank.workflows.answering.evaluate import evaluate as measure

    session: Session = context.obj
    options = build(DataOptions, given)
    with ExitStack() as stack:
        progress = stack.enter_context(session.progress())
        result = measure(
            *answering(session, stack, bundle, backbone),
            task,
            data,
            options.columns(),
            options.read_as(),
            progress,
            second_opinion=second_opinion,
        )

    older = (
        ("the router's expert", result.routed_expert),
        (f"{result.metric}, that one named", share(result.routed_expert_oracle)),
    )

    def show(console: Console) -> None:
        print_facts(
            console,
            [
                ("expert", result.expert),
                ("rows", f"{result.n:,}"),
                (f"{result.metric}, named", share(result.oracle)),
                *(older if result.routed_expert not in {None, result.expert} else ()),
                (f"{result.metric}, routed", share(result.routed)),
                ("routed to task", share(result.routed_to_task)),
            ],
        )
        if result.per_label:
            print_table(
                console,
                Table(("label", "rows", "right"), numeric=("rows", "right")),
                ((label_text(name), c["n"], c["right"]) for name, c in result.per_label.items()),
            )

    session.answer(result.to_dict(), show)
    for text in result.data_remarks:
        session.remark(f"note: {text}")
    if result.remark:
        session.remark(result.remark)


def answering(
    session: Session, stack: ExitStack, bundle: Path | None, backbone: str | None
) -> tuple[Experts, Callable[[], Predictor]]:
    """Who may be named to answer, and what loads the backbone."""
    if bundle is None:
        bank = stack.enter_context(session.bank(read_only=True, backbone=backbone))
        return bank.answerers, bank.predictor
    from expertbank.workflows.answering.serve import open_bundle

    opened = open_bundle(bundle)
    for remark in opened.remarks:
        session.remark(f"note: {remark}")
    return opened.experts, lambda: opened.predictor(backbone, session.device)
