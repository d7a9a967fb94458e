"""``tasks``: the catalog, one task in full, and a dry run over data. Without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from expertbank.config import TrainConfig
from expertbank.reports.figures import share
from expertbank.settings import build

from .browse import print_tree
from .options import ColumnOptions, path, takes
from .render import Table, print_facts, print_table
from .session import Session

if TYPE_CHECKING:
    from expertbank.data import TaskCheck, TaskSpec


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
    added = _added(session)
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
            }
            for spec in specs
        ]
    }
    session.answer(
        document,
        lambda console: print_table(
            console,
            Table(("task", "kind", "added", "description"), wrapped=("description",)),
            (
                (spec.name, spec.kind, "yes" if spec.name in added else "no", spec.description)
                for spec in specs
            ),
        ),
    )


def _added(session: Session) -> set[str]:
    """Tasks of the bank, if there is one: the catalog can be read without."""
    from expertbank.errors import NotFoundError

    try:
        with session.registry() as registry:
            return {task.name for task in registry.tasks()}
    except NotFoundError:
        return set()


@tasks.command()
def show(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A task of the catalog.")] = None,
    spec: SpecFile = None,
) -> None:
    """Show one task in full: columns, labels, sources and split.

    Example: expertbank tasks show boolq
    """
    session: Session = context.obj
    document = _spec_of(name, spec).to_dict()
    session.answer(document, lambda console: print_tree(console, document))


@tasks.command()
@takes(ColumnOptions)
@takes(TrainConfig, only=("limit", "eval_limit", "epochs", "seed"))
def check(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SRC]",
            help="Folder or file (.csv .tsv .jsonl .parquet), hf:… or pkg:…; default the task's "
            "own sources.",
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Catalog task whose columns and labels the data has.")
    ] = None,
    spec: SpecFile = None,
    backbone: Annotated[
        str | None, typer.Option(help="Hub name or folder of the backbone, for its tokenizer.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=8, help="Longest sequence in tokens; default the bank's.")
    ] = None,
    tokens_per_second: Annotated[
        float, typer.Option(min=1e-6, max=1e12, help="Assumed speed of training, for the estimate.")
    ] = 3000.0,
    **given: Any,
) -> None:
    """Try out data without training: rows, labels, lengths, and what `add` would do.

    Nothing is written.

    Example: expertbank tasks check tickets.csv --label-column topic
    """
    from expertbank.data import check_task, length_counter
    from expertbank.errors import InputError

    session: Session = context.obj
    if source is None and task is None and spec is None:
        raise InputError("nothing to check: give a folder or file, or a task with --task or --spec")
    wanted = _spec_of(task or (None if spec else "data"), spec, own=source is not None)
    wanted = wanted.with_columns(build(ColumnOptions, given).columns())
    reference, revision, length = _of_bank(session)
    found = check_task(
        wanted,
        source,
        length_counter(backbone or reference, None if backbone else revision),
        train=build(TrainConfig, given),
        max_length=max_length or length,
        tokens_per_second=tokens_per_second,
    )
    session.answer(found.to_dict(), lambda console: _print_check(console, found))


def _spec_of(name: str | None, file: Path | None, *, own: bool = False) -> TaskSpec:
    """The task that a name or a file means; with ``own`` rows a name need not be known."""
    from expertbank.data import catalog_spec, load_spec, task_spec
    from expertbank.errors import InputError

    if file is None:
        if name is None:
            raise InputError("name a task, or give a task file with --spec")
        return task_spec(name) if own else catalog_spec(name)
    spec = load_spec(file)
    if name is not None and name != spec.name:
        raise InputError(f"{file} describes the task {spec.name!r}, not {name!r}; drop one")
    return spec


def _of_bank(session: Session) -> tuple[str, str | None, int]:
    """Backbone, its commit and maximum length of the bank, or the defaults of a new one."""
    from expertbank.config import DEFAULT_BACKBONE, DEFAULT_MAX_LENGTH
    from expertbank.errors import NotFoundError

    try:
        with session.registry() as registry:
            record = registry.backbone()
    except NotFoundError:
        record = None
    if record is None:
        return DEFAULT_BACKBONE, None, DEFAULT_MAX_LENGTH
    return record.reference, record.revision, record.feature_spec.max_length


_COUNTS = (
    ("dropped_unlabelled", "without a label"),
    ("duplicates", "duplicates"),
    ("leaked", "also in validation"),
    ("over_limit", "over the limit"),
)


def _print_check(console: Console, found: TaskCheck) -> None:
    data, lengths, plan = found.data, found.lengths, found.plan
    columns = data.spec.columns
    left_out = ", ".join(
        f"{data.counts[key]:,} {words}" for key, words in _COUNTS if data.counts[key]
    )
    facts: list[tuple[str, Any]] = [
        ("task", f"{data.spec.name} ({data.spec.kind})"),
        ("source", data.source + (f" @ {data.revision}" if data.revision else "")),
        ("columns", ", ".join(_columns(columns))),
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
    facts += [
        (
            "to train on",
            f"{plan.train:,} rows, {plan.epochs} epochs; {plan.selection:,} to choose the "
            f"checkpoint, {plan.validation:,} to report on",
        ),
        (
            "estimate",
            f"about {_time(plan.seconds)} at {plan.tokens_per_second:,.0f} tokens/s "
            f"({plan.tokens:,} {lengths.unit} an epoch)",
        ),
    ]
    print_facts(console, facts)
    if found.labels:
        from expertbank.kinds import KINDS

        name = KINDS.get(data.spec.kind).label_word
        print_table(
            console,
            Table((name, "train", "validation"), numeric=("train", "validation")),
            ((label, *counts) for label, counts in found.labels.items()),
        )
    if found.warnings:
        print_facts(console, [("warning", text) for text in found.warnings])


def _columns(columns: Any) -> list[str]:
    named = [
        ("text", columns.text),
        ("pair", columns.text_pair),
        ("choices", " ".join(columns.choices)),
        ("label", columns.label or " ".join(columns.flags)),
        ("group", " ".join(columns.group)),
    ]
    return [f"{role}: {column}" for role, column in named if column]


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
