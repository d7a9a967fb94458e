"""``predict``: answers in a table, in JSON lines, or as they are written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expertbank.records import no_progress
from expertbank.reports.figures import share
from expertbank.settings import build

from . import completing, streams
from .answering import answering
from .left_out import LeftOut
from .options import OF_LABELS, DataOptions, takes
from .render import Table, print_table, printable
from .session import Session
from .shared_options import Backbone, FromBundle, SecondOpinion, SkipBad

if TYPE_CHECKING:
    from expertbank.data import Columns
    from expertbank.errors import InputError
    from expertbank.records import Row
    from expertbank.workflows.answering.prediction import Prediction

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


@takes(DataOptions, without=OF_LABELS)
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
    bundle: FromBundle = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="Name the task, or the group, and leave the router out.",
            autocompletion=completing.tasks_and_groups,
        ),
    ] = None,
    abstain: Annotated[
        bool, typer.Option("--abstain", help="Answer unknown to rows that are like no task.")
    ] = False,
    fallback: Annotated[
        str | None,
        typer.Option(help="Task that answers rows that are like no task, where it can read them."),
    ] = None,
    second_opinion: SecondOpinion = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Say why: the tasks that came close, and how rare such rows are."
        ),
    ] = False,
    skip_bad: SkipBad = False,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Show answers that are written word by word, one row after the other; with "
            '--json in lines {"index", "part"} before the row\'s own.',
        ),
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
    if stream and explain and not session.as_json:
        raise typer.BadParameter("--stream shows answers alone; with --explain it needs --json")
    if bool(text) == bool(file):
        raise typer.BadParameter("give either texts or --file")
    of_files = ["--" + key.replace("_", "-") for key in given] + ["--skip-bad"] * skip_bad
    if text and of_files:
        raise typer.BadParameter(f"{', '.join(of_files)}: for rows of a --file, and not for texts")
    if (text or []).count("-") > 1:
        raise typer.BadParameter("- is all of standard input, which is one text: give it once")
    if text_pair is not None and len(text or ()) != 1:
        raise typer.BadParameter("--text-pair goes with exactly one TEXT")
    with ExitStack() as stack:
        experts, load = answering(session, stack, bundle, backbone)
        from expertbank.workflows.answering.experts import answerers

        # A name that nobody has is told before the backbone is loaded.
        named = () if task is None else answerers(experts, task)
        if fallback is not None:
            experts.named(fallback)
        usual = experts.data_spec(named[0]).columns if named else None
        options = build(DataOptions, given)
        rows, total = _rows(session, text or [], text_pair, file, options, skip_bad, usual)
        predictor = load()
        progress = no_progress if stream else stack.enter_context(session.progress())
        parts = _Parts(session.as_json) if stream else None
        left_out = LeftOut(session)
        answers = predictor.predict(
            rows,
            task=task,
            abstain=abstain,
            fallback=fallback,
            second_opinion=second_opinion,
            progress=progress,
            on_bad=left_out if skip_bad else None,
            total=total,
            told=None if parts is None else parts.told,
        )
        answers = left_out.counted(answers)
        odd = _Odd(fallback, asked=abstain or fallback is not None)
        if session.as_json:
            _write_lines(answers, explain, at_once=stream)
        elif parts is not None:
            for answer in odd.watch(answers):
                parts.end(answer)
        else:
            from expertbank.workflows.answering.answers import cells

            print_table(
                session.out,
                _EXPLAINED if explain else _ANSWERS,
                map(
                    _explained if explain else cells,
                    (answer for row in odd.watch(answers) for answer in row.answers or (row,)),
                ),
            )
        if not session.as_json:
            odd.tell(session)
        older = [predictor.older_member(one.task) for one in named]
    left_out.tell()
    for remark in filter(None, older):
        session.remark(remark)


class _Parts:
    """Answers as they are written: what of each is settled is shown at once."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._index = -1
        self._shown = 0

    def told(self, index: int, text: str) -> bool:
        """Show what is new of a row's answer; it goes on."""
        if index != self._index:
            self._index, self._shown = index, 0
        more, self._shown = text[self._shown :], len(text)
        if more and self._as_json:
            line = {"index": index, "part": more}
            streams.write(streams.as_json(line, sys.stdout) + "\n")
        elif more:
            streams.write(_on_lines(more))
        streams.flush()
        return True

    def end(self, answer: Prediction) -> None:
        """Show what is left of a row's answer, and those of the others of its group."""
        shown = self._shown if answer.index == self._index else 0
        for one in answer.answers or (answer,):
            text = one.text if one.written is None else one.written
            streams.write(_on_lines(text[shown:]) + "\n")
            shown = 0
        streams.flush()


def _on_lines(text: str) -> str:
    """What a terminal can be shown of a text, in its own lines."""
    return "\n".join(map(printable, text.split("\n")))


@dataclass(slots=True)
class _Some:
    """A few of the rows of one sort, to be named."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, index: int) -> None:
        self.count += 1
        self.first = [*self.first, index][:10]

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.first) else ""
        return f"row {', '.join(map(str, self.first))}{more}"


class _Odd:
    """Rows to tell of at the end: too long to be read whole; like no task, and nobody's."""

    def __init__(self, fallback: str | None, *, asked: bool) -> None:
        self._fallback, self._asked = fallback, asked
        self._unknown, self._long, self._unread = _Some(), _Some(), _Some()

    def watch(self, answers: Iterable[Prediction]) -> Iterator[Prediction]:
        for answer in answers:
            if answer.unknown:
                self._unknown.add(answer.index)
                if self._fallback not in {None, answer.task}:
                    self._unread.add(answer.index)
            if answer.truncated:
                self._long.add(answer.index)
            yield answer

    def tell(self, session: Session) -> None:
        if self._unknown.count and not self._asked:
            session.remark(
                f"note: like no task here ({self._unknown}); "
                "--abstain answers unknown, --fallback TASK sends such rows to that task"
            )
        if self._unread.count:
            session.remark(
                f"note: like no task here, and {self._fallback} reads no such rows "
                f"({self._unread}); the nearest task answered"
            )
        if self._long.count:
            session.remark(
                f"note: {self._long.count:,} longer than the bank reads, and cut ({self._long})"
            )


def _explained(answer: Prediction) -> tuple[object, ...]:
    from expertbank.workflows.answering.answers import cells

    near = "; ".join(f"{' + '.join(one.tasks)} {share(one.probability)}" for one in answer.near)
    rare = "-" if answer.unknown_p_value is None else share(answer.unknown_p_value)
    return (*cells(answer), rare, answer.length_bin, near or "-")


def _rows(
    session: Session,
    texts: list[str],
    text_pair: str | None,
    file: str | None,
    options: DataOptions,
    skip_bad: bool,
    usual: Columns | None,
) -> tuple[Iterable[Row | InputError], int]:
    """The rows, and how many there are at most; 0 when only reading tells."""
    from expertbank.data import most_rows, row_of, rows_to_answer

    if file is None:
        if usual is not None and usual.text_pair is not None and text_pair is None:
            session.remark("note: the task was trained on pairs; --text-pair gives the second text")
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
        usual=usual,
    )
    return rows, most_rows(file)


WIDEST = 4
"""Most bytes of a character in UTF-8."""


def _standard_input() -> str:
    """The whole of standard input as one text, without the line break at its end.

    Raises:
        InputError: it cannot be read, is longer than a text may be, or is not UTF-8.
    """
    from expertbank.data.formats.lines import decode
    from expertbank.errors import InputError
    from expertbank.texts import LONGEST

    try:
        data = sys.stdin.buffer.read(WIDEST * LONGEST + 1)
    except OSError as error:
        raise InputError(f"cannot read standard input: {error.strerror}") from error
    if len(data) > WIDEST * LONGEST:
        raise InputError(f"the text of standard input has more than {LONGEST:,} characters")
    return decode(data, "standard input").rstrip("\r\n")


def _write_lines(answers: Iterator[Prediction], explain: bool, *, at_once: bool) -> None:
    for answer in answers:
        document = answer.to_dict()
        if explain:
            document["explanation"] = answer.explanation()
        streams.write(streams.as_json(document, sys.stdout) + "\n")
        if at_once:
            streams.flush()
