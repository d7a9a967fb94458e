"""``export`` and ``predict``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    backbone: Backbone = None,
) -> None:
    """Ship one verified folder.

    It predicts without the bank. The folder is loaded back and its logits compared before it
    takes its name. A bundle that is there is replaced; anything else is left alone.

    Example: expertbank export ./expertbank-bundle
    """
    session: Session = context.obj
    with session.bank(backbone=backbone) as bank, session.progress() as progress:
        result = bank.export(
            folder, tasks=tuple(task or ()), with_backbone=with_backbone, progress=progress
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
                answer.label,
                share(answer.scores[answer.label]),
                share(answer.confidence),
            )
            for answer in found
        ),
        numeric=("row", "probability", "routed with"),
    )


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
