"""``tasks``: the catalog, one task in full, and a dry run over data. Without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from expertbank.config import BankConfig
from expertbank.reports.figures import share
from expertbank.settings import build

from . import completing, requests
from .browse import print_tree
from .given_once import Command
from .grouping import remark
from .options import path, takes
from .render import Table, columns_read, print_facts, print_lines, print_table, read_as
from .session import Session

if TYPE_CHECKING:
    from expertbank.data import Faults, TaskCheck, TaskSpec
    from expertbank.records import ProgressCallback
    from expertbank.workflows.growing.grouping import Stale


class _TasksGroup(TyperGroup):
    """``tasks boolq`` means ``tasks show boolq``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that ``args`` name; a word that is none is a task to show."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["show", *args]
        return super().resolve_command(ctx, args)


tasks = typer.Typer(
    cls=_TasksGroup,
    invoke_without_command=True,
    rich_markup_mode=None,
    add_completion=False,
    help="List the catalog, show one task, or check data before training on it.",
)

SpecFile = Annotated[
    Path | None,
    typer.Option(parser=path, help="A task of your own: YAML with the fields of the catalog."),
]


@tasks.callback()
def list_tasks(context: typer.Context) -> None:
    """List the catalog; `tasks show T` shows one task, `tasks check SRC` tries out data.

    Example: expertbank tasks
    """
    if context.invoked_subcommand is not None:
        return
    from expertbank.data import catalog_names, catalog_spec

    session: Session = context.obj
    added, stale = _added(session)
    specs = [catalog_spec(known) for known in catalog_names()]
    document = {
        "tasks": [
            {
                "task": spec.name,
                "kind": spec.kind,
                "description": spec.description,
                "licence": spec.licence,
                "sources": [source.ref for source in spec.sources],
                "added": spec.name in added,
                "group": added.get(spec.name),
            }
            for spec in specs
        ]
    }
    session.answer(
        document,
        lambda console: print_table(
            console,
            Table(("task", "kind", "added", "description"), wrapped=("description",)),
            ((spec.name, spec.kind, _state(spec.name, added), spec.description) for spec in specs),
        ),
    )
    remark(session, stale)


def _added(session: Session) -> tuple[dict[str, str | None], Stale]:
    """Tasks of the bank with their groups, if there is one: the catalog can be read without."""
    from expertbank.errors import NotFoundError
    from expertbank.workflows.growing.grouping import Stale

    try:
        with session.registry() as registry:
            return {task.name: task.group for task in registry.tasks()}, Stale.of(registry)
    except NotFoundError:
        return {}, Stale()


def _state(task: str, added: Mapping[str, str | None]) -> str:
    """Whether a task is in the bank, and in which group."""
    group = added.get(task)
    return "no" if task not in added else f"yes, in {group}" if group else "yes"


@tasks.command(cls=Command)
def show(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="A task of the catalog.", autocompletion=completing.catalogued),
    ] = None,
    spec: SpecFile = None,
) -> None:
    """Show one task in full: columns, labels, sources and split.

    Example: expertbank tasks show boolq
    """
    session: Session = context.obj
    document = _known(name, spec).to_dict()
    session.answer(document, lambda console: print_tree(console, document))


def _known(name: str | None, file: Path | None) -> TaskSpec:
    """The task that a name of the catalog or a file means."""
    from expertbank.data import catalog_spec, load_spec
    from expertbank.errors import InputError

    if file is None:
        if name is None:
            raise InputError("name a task, or give a task file with --spec")
        return catalog_spec(name, "expertbank show shows what a bank holds of a task of your own")
    spec = load_spec(file)
    if name is not None and name != spec.name:
        raise InputError(f"{file} describes the task {spec.name!r}, not {name!r}; drop one")
    return spec


@tasks.command(cls=Command)
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
    rehash: Annotated[
        bool, typer.Option("--rehash", help="As `add` has it; here it does nothing.")
    ] = False,
    tokens_per_second: Annotated[
        float, typer.Option(min=1e-6, max=1e12, help="Assumed speed of training, for the estimate.")
    ] = 3000.0,
    **given: Any,
) -> None:
    """Try out data without training: rows, labels, lengths, and what `add` would do.

    Takes the options of `add`. Lists every bad row (the first hundred of each kind) and exits
    with 2 if there is one. Nothing is written.

    Example: expertbank tasks check tickets.csv --label-column topic
    """
    from expertbank.errors import InputError

    session: Session = context.obj
    if source is not None and "data" in given:
        raise InputError("give the data once: as SRC or with --data")
    if source is not None:
        given["data"] = source
    if list_file is not None:
        entries = requests.arguments_of_list(list_file, given)
    elif given.keys() & {"data", "task", "spec"}:
        # A name that add would ask for is not needed to look at rows.
        named = given if given.keys() & {"task", "spec"} else {"task": "data", **given}
        entries = [requests.arguments(named)]
    else:
        raise InputError("nothing to check: give a folder or file, or a task with --task or --spec")
    bank = build(BankConfig, given)
    with session.progress() as progress:
        checked = [_checked(session, entry, bank, tokens_per_second, progress) for entry in entries]
    documents = [document for document, _, _ in checked]

    def show(console: Console) -> None:
        for _, print_one, _ in checked:
            print_one(console)

    session.answer(documents[0] if list_file is None else {"checked": documents}, show)
    faults = [bad for _, _, bad in checked if bad]
    if len(faults) == 1 and session.as_json:
        faults[0].refuse(advice="")  # the document lists them
    if faults:
        count = sum(bad.rows for bad in faults)
        raise InputError(f"{count:,} bad row{'' if count == 1 else 's'} to mend, listed above")


def _checked(
    session: Session,
    wanted: dict[str, Any],
    bank: BankConfig,
    tokens_per_second: float,
    progress: ProgressCallback,
) -> tuple[dict[str, Any], Callable[[Console], None], Faults]:
    """The document of one task's check, what prints it, and its bad rows."""
    from expertbank.data import BadRowsError, check_task, length_counter
    from expertbank.workflows.growing.prepare import require_settings

    require_settings(wanted["task"], wanted["adapter"], wanted["train"], wanted["tune"])
    reference, revision, length, remarks = _of_bank(session, wanted, bank)
    try:
        found = check_task(
            wanted["task"],
            wanted["data"],
            length_counter(reference, revision),
            train=wanted["train"],
            max_length=length,
            tokens_per_second=tokens_per_second,
            progress=progress,
        )
    except BadRowsError as error:
        document = {
            "task": wanted["task"].name,
            "bad_rows": error.faults.to_list(),
            "without_them": error.beside,
        }
        return document, partial(_print_bad, faults=error.faults, beside=error.beside), error.faults
    found = replace(found, warnings=(*remarks, *found.warnings))
    return found.to_dict(), partial(_print_check, found=found), found.bad


def _of_bank(
    session: Session, wanted: dict[str, Any], asked: BankConfig
) -> tuple[str, str | None, int, list[str]]:
    """Backbone, its commit and maximum length, and what of the bank stands in the way of `add`.

    Of the bank, or of a new one with the options.
    """
    from expertbank.config import DEFAULT_BACKBONE, DEFAULT_MAX_LENGTH
    from expertbank.errors import ExistsError, InputError, NotFoundError
    from expertbank.workflows.growing.grouping import require_allowed

    name, record, remarks = wanted["task"].name, None, []
    try:
        with session.registry() as registry:
            record = registry.backbone()
            version = registry.next_version(name)
            if version > 1 and not wanted["new_version"]:
                remarks.append(f"the bank has {name}@{version - 1}: add needs --new-version")
            try:
                require_allowed(registry, wanted["task"], wanted["group"])
            except (ExistsError, InputError) as error:
                remarks.append(f"add would refuse: {error}")
    except NotFoundError:
        pass
    if record is None:
        length = asked.max_length or DEFAULT_MAX_LENGTH
        return asked.backbone or DEFAULT_BACKBONE, None, length, remarks
    length = record.feature_spec.max_length
    if asked.max_length not in {None, length}:
        remarks.append(
            f"the bank's maximum length is {length} and cannot change; lengths are counted for "
            f"{asked.max_length}"
        )
    reference = asked.backbone or record.reference
    return reference, record.revision_of(reference), asked.max_length or length, remarks


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
        count = faults.counts[fault]
        shown = "" if count == len(messages) else f", of which the first {len(messages)}"
        rows = "row" if count == 1 else "rows"
        print_lines(
            console, [f"{fault}: {count:,} {rows}{shown}", *(f"  {one}" for one in messages)]
        )
    if beside:
        print_lines(console, [f"without them: {beside}"])


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
