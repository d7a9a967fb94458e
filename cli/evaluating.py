"""``expertbank evaluate``: one task on new labelled rows."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Any

import typer
from rich.console import Console

from expertbank.kinds.labels import label_text
from expertbank.reports.figures import share
from expertbank.settings import build

from . import completing
from .answering import answering
from .options import DataOptions, takes
from .render import Table, print_facts, print_table
from .session import Session
from .shared_options import Backbone, FromBundle, SecondOpinion


@takes(DataOptions)
def evaluate(
    context: typer.Context,
    task: Annotated[
        str,
        typer.Option(help="Task whose answers to check.", autocompletion=completing.tasks),
    ],
    data: Annotated[str, typer.Option(help="Labelled rows: a file, a folder, hf: or pkg:.")],
    bundle: FromBundle = None,
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
