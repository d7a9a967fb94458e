"""``export``, ``predict`` and ``evaluate``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .options import ChoicesColumn, LabelColumn, PairColumn, TextColumn
from .render import print_facts, print_table, share, short, size
from .session import Session

if TYPE_CHECKING:
    from expertbank.records import Row
    from expertbank.workflows.predict import Prediction, Predictor

Backbone = Annotated[
    str | None, typer.Option(help="Where the backbone is, if not where the bank or bundle says.")
]


def export(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder to write.")] = Path("expertbank-bundle"),
    task: Annotated[
        list[str] | None, typer.Option(help="Only this task; may be given several times.")
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
    backbone: Backbone = None,
) -> None:
    """Ship one verified folder.

    It predicts without the bank. The folder is loaded back and its logits compared before it
    takes its name. A bundle that is there is replaced; anything else is left alone.

    Example: expertbank export ./expertbank-bundle
    """
    session: Session = context.obj
    with (
        session.bank(read_only=not session.writable, backbone=backbone) as bank,
        session.progress() as progress,
    ):
        result = bank.export(
            folder,
            tasks=tuple(task or ()),
            with_backbone=with_backbone,
            for_import=for_import,
            progress=progress,
        )
    session.answer(
        result.to_dict(),
        lambda console: print_facts(
            console,
            [
                ("bundle", result.path),
                ("digest", short(result.digest)),
                ("experts", ", ".join(result.experts)),
                ("router", f"router@{result.router_version}"),
                ("size", size(result.bytes)),
                ("verified", "logits equal the bank's on probe rows"),
            ],
        ),
    )
    if not result.recorded:
        session.remark("warning: the bank is read-only: the export is not recorded in its history")


def predict(
    context: typer.Context,
    text: Annotated[list[str] | None, typer.Argument(help="Texts to answer.")] = None,
    text_pair: Annotated[
        str | None, typer.Option(help="Second text, for one TEXT of a pair task.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(help='JSON lines {"text", "text_pair"?} to answer; - is standard input.'),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Answer from this bundle; no bank is needed.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Name the task and leave the router out.")
    ] = None,
    backbone: Backbone = None,
) -> None:
    """Route each text to an expert and answer it.

    With --json, one JSON line a row, in the order of the input.

    Example: expertbank predict "is the sky blue" --text-pair "Rayleigh scattering ..."
    """
    session: Session = context.obj
    if bool(text) == bool(file):
        raise typer.BadParameter("give either texts or --file")
    if text_pair is not None and len(text or ()) != 1:
        raise typer.BadParameter("--text-pair goes with exactly one TEXT")
    with ExitStack() as stack:
        rows = _rows(stack, text or [], text_pair, file)
        predictor = _predictor(session, stack, bundle, backbone)
        progress = stack.enter_context(session.progress())
        answers = predictor.predict(rows, task=task, progress=progress)
        if session.as_json:
            _write_lines(answers)
            return
        found = list(answers)
    print_table(
        session.out,
        ("row", "task", "label", "probability", "routed with"),
        (
            (
                answer.index,
                answer.task,
                answer.label if isinstance(answer.label, str) else f"{answer.label:.3f}",
                share(answer.scores.get(str(answer.label))),
                share(answer.confidence),
            )
            for row in found
            for answer in row.answers or (row,)
        ),
        numeric=("row", "probability", "routed with"),
    )


def evaluate(
    context: typer.Context,
    task: Annotated[str, typer.Option(help="Task whose answers to check.")],
    data: Annotated[str, typer.Option(help="Labelled rows: a file, a folder, hf: or pkg:.")],
    bundle: Annotated[
        Path | None, typer.Option(help="Answer from this bundle; no bank is needed.")
    ] = None,
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    choices_column: ChoicesColumn = None,
    label_column: LabelColumn = None,
    backbone: Backbone = None,
) -> None:
    """Measure one task on new labelled rows.

    With the task named, and with the router choosing.

    Example: expertbank evaluate --task tickets --data new-tickets.csv
    """
    from expertbank.tasks import Columns
    from expertbank.workflows.evaluate import evaluate as measure
    from expertbank.workflows.evaluate import with_columns

    session: Session = context.obj
    columns = Columns(text_column, pair_column, tuple(choices_column or ()), label_column)
    with ExitStack() as stack:
        progress = stack.enter_context(session.progress())
        if bundle is not None:
            from expertbank.workflows.serve import bundled_task, load_bundle

            spec = with_columns(bundled_task(bundle, task), columns)
            result = measure(load_bundle(bundle, backbone=backbone), spec, data, progress)
        else:
            bank = stack.enter_context(session.bank(read_only=True, backbone=backbone))
            result = bank.evaluate(task, data, columns=columns, progress=progress)

    def show(console: Console) -> None:
        print_facts(
            console,
            [
                ("expert", result.expert),
                ("rows", f"{result.n:,}"),
                (f"{result.metric}, named", share(result.oracle)),
                (f"{result.metric}, routed", share(result.routed)),
                ("routed to task", share(result.routed_to_task)),
            ],
        )
        if result.per_label:
            print_table(
                console,
                ("label", "rows", "right"),
                ((label, c["n"], c["right"]) for label, c in result.per_label.items()),
                numeric=("rows", "right"),
            )

    session.answer(result.to_dict(), show)


def _rows(
    stack: ExitStack, texts: list[str], text_pair: str | None, file: str | None
) -> Iterator[Row]:
    from expertbank.errors import InputError
    from expertbank.records import Row
    from expertbank.tasks import parse_prediction_rows

    if file is None:
        for number, text in enumerate(texts):
            if not text.strip():
                raise InputError(f"text {number + 1} is empty")
        pair = text_pair if text_pair and text_pair.strip() else None  # as in a file's row
        return iter([Row(text, pair) for text in texts])
    if file == "-":
        return parse_prediction_rows(sys.stdin.buffer, "standard input")
    try:
        stream = stack.enter_context(Path(file).open("rb"))  # noqa: SIM115 (the stack closes it)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    return parse_prediction_rows(stream, file)


def _predictor(
    session: Session, stack: ExitStack, bundle: Path | None, backbone: str | None
) -> Predictor:
    if bundle is not None:
        from expertbank.workflows.serve import load_bundle

        return load_bundle(bundle, backbone=backbone)
    return stack.enter_context(session.bank(read_only=True, backbone=backbone)).predictor()


def _write_lines(answers: Iterator[Prediction]) -> None:
    import json

    for answer in answers:
        sys.stdout.write(json.dumps(answer.to_dict(), ensure_ascii=False) + "\n")
    sys.stdout.flush()
