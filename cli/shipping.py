"""``export``, ``predict`` and ``evaluate``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from expertbank.config import ExportFormat
from expertbank.kinds.labels import label_text
from expertbank.reports.figures import share
from expertbank.settings import build

from . import completing, streams
from .options import DataOptions, path, takes
from .render import Table, print_facts, print_table, short, size
from .session import Session

if TYPE_CHECKING:
    from expertbank.errors import InputError
    from expertbank.records import Row
    from expertbank.workflows.answering.predict import Experts, Predictor
    from expertbank.workflows.answering.prediction import Prediction

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

_ANSWERS = Table(
    ("row", "task", "label", "probability", "routed with", "unknown"),
    numeric=("row", "probability", "routed with"),
    wrapped=("label",),
    dropped=("routed with",),
)
_EXPLAINED = Table(
    (*_ANSWERS.columns, "known as strange", "length", "came close"),
    numeric=(*_ANSWERS.numeric, "known as strange"),
    wrapped=("label", "came close"),
    dropped=("routed with", "length"),
)


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
        session.did(f"{result.path} was written")
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
                ("experts", ", ".join(result.experts)),
                ("router", f"router@{result.router_version}"),
                ("size", size(result.bytes)),
                ("verified", compared),
            ],
        ),
    )
    if not result.recorded:
        session.remark("warning: the bank is read-only: the export is not recorded in its history")


@takes(DataOptions, only=("text_column", "pair_column", "choices_column", "separator", "encoding"))
def predict(
    context: typer.Context,
    text: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts to answer; - is one text from standard input. Put -- before texts that "
            "begin with a dash."
        ),
    ] = None,
    text_pair: Annotated[
        str | None, typer.Option(help="Second text, for one TEXT of a pair task.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            help="Rows to answer, in any format that `add` reads; - is standard input. JSON lines "
            'hold {"text", "text_pair"?, "choices"?}.'
        ),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(parser=path, help="Answer from this bundle; no bank is needed.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="Name the task and leave the router out.", autocompletion=completing.tasks
        ),
    ] = None,
    abstain: Annotated[
        bool, typer.Option("--abstain", help="Answer unknown to rows that are like no task.")
    ] = False,
    fallback: Annotated[
        str | None, typer.Option(help="Task that answers rows that are like no task.")
    ] = None,
    second_opinion: SecondOpinion = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Say why: the tasks that came close, and how rare such rows are."
        ),
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave malformed rows out instead of ending at the first."),
    ] = False,
    backbone: Backbone = None,
    **given: Any,
) -> None:
    """Route each text to an expert and answer it.

    With --json, one JSON line a row, in the order of the input. Files of any size are answered
    as they are read. A malformed row ends the work: among the first thousand of a file before
    anything is answered, later (and in a pipe) after the rows before it were. With --skip-bad it
    is named on stderr and leaves a gap in the indices.

    Example: expertbank predict "is the sky blue" --text-pair "Rayleigh scattering ..."
    """
    session: Session = context.obj
    if bool(text) == bool(file):
        raise typer.BadParameter("give either texts or --file")
    if (text or []).count("-") > 1:
        raise typer.BadParameter("- is all of standard input, which is one text: give it once")
    if text_pair is not None and len(text or ()) != 1:
        raise typer.BadParameter("--text-pair goes with exactly one TEXT")
    with ExitStack() as stack:
        rows, total = _rows(
            session, text or [], text_pair, file, build(DataOptions, given), skip_bad
        )
        experts, load = answering(session, stack, bundle, backbone)
        # A name that nobody has is told before the backbone is loaded.
        for name in filter(None, (task, fallback)):
            experts.named(name)
        predictor = load()
        progress = stack.enter_context(session.progress())
        skipped = 0

        def skip(error: InputError) -> None:
            nonlocal skipped
            skipped += 1
            session.remark(f"skipped: {error}")

        answers = predictor.predict(
            rows,
            task=task,
            abstain=abstain,
            fallback=fallback,
            second_opinion=second_opinion,
            progress=progress,
            on_bad=skip if skip_bad else None,
            total=total,
        )
        if session.as_json:
            _write_lines(answers, explain)
        else:
            from expertbank.workflows.answering.answers import cells

            strange = _Strange(abstain or fallback is not None)
            print_table(
                session.out,
                _EXPLAINED if explain else _ANSWERS,
                map(
                    _explained if explain else cells,
                    (answer for row in strange.watch(answers) for answer in row.answers or (row,)),
                ),
            )
            strange.tell(session)
        older = None if task is None else predictor.older_member(task)
    if skipped:
        session.remark(f"{skipped:,} malformed rows were skipped")
    if older:
        session.remark(older)


class _Strange:
    """Rows that were like no task, to tell of at the end when nobody asked what to do with them."""

    def __init__(self, asked: bool) -> None:
        self._asked = asked
        self._first: list[int] = []
        self._count = 0

    def watch(self, answers: Iterable[Prediction]) -> Iterator[Prediction]:
        for answer in answers:
            if answer.unknown:
                self._count += 1
                self._first = [*self._first, answer.index][:10]
            yield answer

    def tell(self, session: Session) -> None:
        if self._count and not self._asked:
            more = ", ..." if self._count > len(self._first) else ""
            session.remark(
                f"note: like no task here (row {', '.join(map(str, self._first))}{more}); "
                "--abstain answers unknown, --fallback TASK sends such rows to that task"
            )


def _explained(answer: Prediction) -> tuple[object, ...]:
    from expertbank.workflows.answering.answers import cells

    near = "; ".join(f"{' + '.join(one.tasks)} {share(one.probability)}" for one in answer.near)
    rare = "-" if answer.unknown_p_value is None else share(answer.unknown_p_value)
    return (*cells(answer), rare, answer.length_bin, near or "-")


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

    With the task named, and with the router choosing.

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
                *(older if result.remark else ()),
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


def _rows(
    session: Session,
    texts: list[str],
    text_pair: str | None,
    file: str | None,
    options: DataOptions,
    skip_bad: bool,
) -> tuple[Iterable[Row | InputError], int]:
    """The rows, and how many there are at most; 0 when only reading tells."""
    from expertbank.data import most_rows, row_of, rows_to_answer

    if file is None:
        given = [
            {"text": _standard_input() if text == "-" else text, "text_pair": text_pair}
            for text in texts
        ]
        return [row_of(row, f"text {n}") for n, row in enumerate(given, start=1)], len(texts)
    rows = rows_to_answer(
        file,
        options.columns(),
        options.read_as(),
        refuse=not skip_bad,
        remark=lambda text: session.remark(f"note: {text}"),
    )
    return rows, most_rows(file)


def _standard_input() -> str:
    """The whole of standard input as one text, without the line break at its end.

    Raises:
        InputError: it cannot be read, is longer than a text may be, or is not UTF-8.
    """
    from expertbank.data.formats.lines import decode
    from expertbank.errors import InputError
    from expertbank.texts import LONGEST

    try:
        data = sys.stdin.buffer.read(LONGEST + 1)
    except OSError as error:
        raise InputError(f"cannot read standard input: {error.strerror}") from error
    return decode(data, "standard input").rstrip("\r\n")


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


def _write_lines(answers: Iterator[Prediction], explain: bool) -> None:
    for answer in answers:
        document = answer.to_dict()
        if explain:
            document["explanation"] = answer.explanation()
        streams.write(streams.as_json(document, sys.stdout) + "\n")
