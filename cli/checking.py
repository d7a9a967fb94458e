"""``tasks check``: a dry run of ``add`` over data. Without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from expertbank.config import BankConfig
from expertbank.data.check import TOKENS_PER_SECOND
from expertbank.reports.figures import share
from expertbank.wording import count

from . import requests
from .ending import described
from .options import takes
from .render import Table, columns_read, not_read, print_facts, print_lines, print_table, read_as
from .session import Session

if TYPE_CHECKING:
    from expertbank.data import BadRowsError, Faults, TaskCheck
    from expertbank.errors import ExpertBankError


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of one task's check.

    Attributes:
        document: its JSON form.
        show: prints it.
        bad: its bad rows, where there are any.
        code: the exit code of an error that left nothing to check; else 0.
    """

    document: dict[str, Any]
    show: Callable[[Console], None]
    bad: Faults | None = None
    code: int = 0


@takes(*requests.PER_TASK, BankConfig)
def check(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(metavar="[SRC]", help="What --data names; default the task's own sources."),
    ] = None,
    *,
    list_file: Annotated[
        str | None, typer.Option("--list", help="YAML list of tasks, as `add` takes it.")
    ] = None,
    retrain_router: Annotated[
        bool, typer.Option("--retrain-router", help="As `add` has it; here it does nothing.")
    ] = False,
    tokens_per_second: Annotated[
        float, typer.Option(min=1e-6, max=1e12, help="Assumed speed of training, for the estimate.")
    ] = TOKENS_PER_SECOND,
    **given: Any,
) -> None:
    """Try out data without training: rows, labels, lengths, and what `add` would do.

    Takes the options of `add`. Lists every bad row (the first hundred of each kind) and exits
    with 2 if there is one. Nothing is written.

    Example: expertbank tasks check tickets.csv --label-column topic
    """
    from expertbank.errors import ExpertBankError, InputError

    session: Session = context.obj
    if source is not None and "data" in given:
        raise InputError("give the data once: as SRC or with --data")
    if source is not None:
        given["data"] = source
    if list_file is not None:
        wanted = requests.of_list(list_file, given)
    elif given.keys() & {"data", "task", "spec"}:
        # A name that add would ask for is not needed to look at rows.
        named = given if given.keys() & {"task", "spec"} else {"task": "data", **given}
        wanted = [requests.request(named)]
    else:
        raise InputError("nothing to check: give a folder or file, or a task with --task or --spec")
    from expertbank.data import BadRowsError
    from expertbank.workflows.growing.check import check_request

    checked: list[Checked] = []
    of_list = list_file is not None
    with session.registry_if_any() as registry, session.progress() as progress:
        for request in wanted:
            try:
                found = check_request(
                    registry, request, tokens_per_second=tokens_per_second, progress=progress
                )
            except BadRowsError as error:
                checked.append(_unusable(request.name, error))
            except ExpertBankError as error:
                if not of_list:
                    raise
                checked.append(_refused(request.name, error))
            else:
                shown = partial(_print_check, found=found)
                checked.append(Checked(found.to_dict(), shown, found.bad))

    def show(console: Console) -> None:
        for one in checked:
            one.show(console)

    documents = [one.document for one in checked]
    session.answer({"checked": documents} if of_list else documents[0], show)
    faults = [one.bad for one in checked if one.bad]
    if code := max(one.code for one in checked):
        raise typer.Exit(max(code, InputError.exit_code) if faults else code)
    if len(faults) == 1 and session.as_json:
        faults[0].refuse(advice="")  # the document lists them
    if faults:
        rows = sum(bad.rows for bad in faults)
        raise InputError(f"{count(rows, 'bad row')} to mend, listed above")


def _unusable(task: str, error: BadRowsError) -> Checked:
    faults, beside = error.faults, error.beside
    document = {"task": task, "bad_rows": faults.to_list(), "without_them": beside}
    return Checked(document, partial(_print_bad, faults=faults, beside=beside), faults)


def _refused(task: str, error: ExpertBankError) -> Checked:
    code, message = described(error)
    document = {"task": task, "code": code, "message": message}
    facts = [("task", task), ("refused", message)]
    return Checked(document, partial(print_facts, facts=facts), code=code)


_COUNTS = (
    ("dropped_unlabelled", "without a label"),
    ("duplicates", "duplicates"),
    ("leaked", "also in validation"),
    ("over_limit", "over the limit"),
)


def _print_check(console: Console, found: TaskCheck) -> None:
    data, lengths, plan = found.data, found.lengths, found.plan
    left_out = ", ".join(
        f"{data.counts[key]:,} {words}" for key, words in _COUNTS if data.counts[key]
    )
    facts: list[tuple[str, Any]] = [
        ("task", f"{data.spec.name} ({data.spec.kind})"),
        (
            "source",
            data.source.removeprefix("once:") + (f" @ {data.revision}" if data.revision else ""),
        ),
        ("columns", columns_read(asdict(data.columns))),
        *(("not read", words) for words in not_read(data.unread)),
        *(("read as", words) for words in read_as([asdict(file) for file in data.files])),
        ("rows read", f"{data.counts['read']:,}"),
        ("left out", left_out or "none"),
        (
            "lengths",
            f"{lengths.least:,} to {lengths.most:,} {lengths.unit}, median {lengths.median:,}, "
            f"95% up to {lengths.p95:,}",
        ),
        ("cut off", f"{lengths.truncated:,} of {lengths.counted:,} rows at {lengths.limit} tokens"),
    ]
    if found.majority is not None:
        facts.append(("majority", f"{share(found.majority)} of the validation rows"))
    if found.values:
        values = found.values
        facts.append(
            ("targets", f"{values['least']:g} to {values['most']:g}, mean {values['mean']:.3g}")
        )
    if not plan.epochs:
        rows = f"{plan.train + plan.selection:,} rows, {plan.validation:,} to report on"
        facts.append(("to route by", f"{rows}; nothing is trained"))
    else:
        facts += _to_train(found)
    print_facts(console, facts)
    if found.labels:
        from expertbank.kinds import KINDS
        from expertbank.kinds.labels import label_text

        name = KINDS.get(data.spec.kind).label_word
        print_table(
            console,
            Table((name, "train", "validation"), numeric=("train", "validation")),
            ((label_text(label), *counts) for label, counts in found.labels.items()),
        )
    if found.warnings:
        print_facts(console, [("warning", text) for text in found.warnings])
    if found.bad:
        _print_bad(console, faults=found.bad)


def _to_train(found: TaskCheck) -> list[tuple[str, str]]:
    lengths, plan = found.lengths, found.plan
    return [
        (
            "to train on",
            f"{plan.train:,} rows, at most {plan.epochs} epochs; {plan.selection:,} to choose the "
            f"checkpoint, {plan.validation:,} to report on",
        ),
        (
            "estimate",
            f"about {_time(plan.seconds)} at {plan.tokens_per_second:,.0f} tokens/s "
            f"({plan.tokens:,} {lengths.unit} an epoch)",
        ),
    ]


def _print_bad(console: Console, *, faults: Faults, beside: str | None = None) -> None:
    """Bad rows by kind of fault."""
    print_facts(
        console, [("bad rows", f"{faults.rows:,}; add refuses the data until they are mended")]
    )
    for fault, messages in faults.first.items():
        rows = faults.counts[fault]
        shown = "" if rows == len(messages) else f", of which the first {len(messages)}"
        print_lines(
            console, [f"{fault}: {count(rows, 'row')}{shown}", *(f"  {one}" for one in messages)]
        )
    if beside:
        print_lines(console, [f"without them: {beside}"])


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
