"""``init`` and ``add``: what makes a bank grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from expertbank.reports.figures import share

from . import requests
from .options import ChoicesColumn, LabelColumn, LabelSeparator, PairColumn, TextColumn
from .render import print_facts, print_table, short, size
from .session import Session

if TYPE_CHECKING:
    from expertbank.workflows.add import AddResult
    from expertbank.workflows.retrain import RouterResult

Backbone = Annotated[
    str | None,
    typer.Option(help="Hub name (org/name[@revision]) or folder; default all-MiniLM-L6-v2."),
]
RouteLayer = Annotated[
    int | None,
    typer.Option(
        help="First layer that adapters act on; routing reads its input. Default one third; "
        "0 runs the backbone twice, as the paper does."
    ),
]
MaxLength = Annotated[
    int | None, typer.Option(help="Longest sequence in tokens; longer texts are cut. Default 256.")
]

Dtype = Annotated[
    str | None,
    typer.Option(help="Type of the backbone's weights: float32 (default) or bfloat16."),
]

Keep = Annotated[
    Literal["features", "stats"] | None,
    typer.Option(
        help="What stays of rows for the router: features (default), or stats: no row at all."
    ),
]


def init(
    context: typer.Context,
    backbone: Backbone = None,
    route_layer: RouteLayer = None,
    max_length: MaxLength = None,
    dtype: Dtype = None,
    keep: Keep = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="URL of where the files are kept, such as file:///data/objects; default a folder "
            "in the bank's own. Each bank needs one of its own."
        ),
    ] = None,
) -> None:
    """Fix the backbone and feature spec.

    The first `add` does the same by itself. Doing it twice with the same values is harmless.

    Example: expertbank --home ./bank init --max-length 128
    """
    session: Session = context.obj
    with session.bank(create=True, backbone=backbone) as bank:
        record = bank.init(
            route_layer=route_layer, max_length=max_length, dtype=dtype, keep=keep, store=store
        )
    spec = record.feature_spec
    document = {
        "home": str(session.home),
        "backbone": record.named(),
        "feature_spec": spec.to_dict(),
        "store": record.store,
    }
    session.answer(
        document,
        lambda console: print_facts(
            console,
            [
                ("bank", session.home),
                ("backbone", record.reference),
                *([("commit", record.revision)] if record.revision else []),
                ("digest", record.digest),
                ("route layer", spec.route_layer),
                ("feature", f"states {list(spec.states)}, {' and '.join(spec.poolings)} pooling"),
                ("maximum length", f"{spec.max_length} tokens"),
                ("dtype", spec.dtype),
                ("kept of rows", spec.keep),
                ("files", record.store or "in the bank's folder"),
            ],
        ),
    )


def add(
    context: typer.Context,
    task: Annotated[
        str | None, typer.Option(help="Catalog name, or a new name together with --data.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Folder or file (.csv .tsv .jsonl .parquet), hf:org/name[:config][@revision], "
            "or pkg:package/path."
        ),
    ] = None,
    spec: Annotated[
        str | None, typer.Option(help="YAML file that describes the task, as the catalog does.")
    ] = None,
    list_file: Annotated[
        str | None,
        typer.Option(
            "--list", help="YAML list of tasks to add one after the other, with these options."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="classification (default), multi_label, multiple_choice, regression."),
    ] = None,
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    choices_column: ChoicesColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    limit: Annotated[int | None, typer.Option(help="Most training rows to use.")] = None,
    eval_limit: Annotated[int | None, typer.Option(help="Most validation rows to use.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Epochs without gain after which training ends.")
    ] = None,
    balance: Annotated[
        bool | None, typer.Option("--balance", help="Weigh rare classes up in the loss.")
    ] = None,
    tt_rank: Annotated[int | None, typer.Option(help="Inner tensor-train rank.")] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Multiplier of the update; default 4, 16 at route layer 0."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Module to adapt instead of query and value, in every layer; repeat it for more. "
            "Needed for models outside the table of families."
        ),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="What the head reads: mean, first or last token. Default mean for encoders, "
            "last for decoders."
        ),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate of the cores.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows an optimiser step sees.")] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Micro-batches a step is cut into, to save memory.")
    ] = None,
    checkpoint_layers: Annotated[
        bool | None,
        typer.Option(
            "--checkpoint-layers", help="Recompute layers backwards: less memory, more time."
        ),
    ] = None,
    cache_memory: Annotated[
        int | None,
        typer.Option(help="MiB for trunk states that all epochs share; default 1024, 0 for none."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds rows, order and start.")] = None,
    group: Annotated[
        str | None,
        typer.Option(help="Tasks of one group answer the same texts: all its experts answer."),
    ] = None,
    new_version: Annotated[
        bool | None, typer.Option("--new-version", help="Allow a further version of a known task.")
    ] = None,
    resume: Annotated[
        bool | None, typer.Option("--resume", help="Go on with an interrupted run of this command.")
    ] = None,
    retrain_router: Annotated[
        bool, typer.Option("--retrain-router", help="Refit and activate the router afterwards.")
    ] = False,
    backbone: Backbone = None,
    route_layer: RouteLayer = None,
    max_length: MaxLength = None,
    dtype: Dtype = None,
    keep: Keep = None,
) -> None:
    """Train one expert and store it, frozen.

    With --list, several: a YAML list of mappings whose keys are these options (`task`, `data`,
    `label_column`, ...). One that fails does not stop the others.

    Example: expertbank add --task boolq --limit 2000 --epochs 3 --retrain-router
    """
    from expertbank.errors import InputError

    session: Session = context.obj
    options = {
        name: value
        for name, value in context.params.items()
        if value is not None and name in requests.OPTIONS
    }
    if list_file is None and task is None and spec is None:
        raise InputError("name the task with --task, --spec or --list; expertbank tasks lists some")
    entries = requests.read_list(list_file, options) if list_file else [options]
    wanted = [requests.build(entry) for entry in entries]
    with session.bank(create=True, backbone=backbone) as bank, session.progress() as progress:
        shared: dict[str, Any] = {
            "route_layer": route_layer,
            "max_length": max_length,
            "dtype": dtype,
            "keep": keep,
            "progress": progress,
        }
        failed: list[dict[str, Any]] = []
        if list_file is None:
            added = [bank.add(**wanted[0], **shared)]
        else:
            added, failed = requests.add_each(bank, wanted, shared)
        router = bank.retrain_router(progress=progress) if retrain_router and added else None
    routed = {"router": router.to_dict()} if router else {}
    if list_file is None:
        session.answer(added[0].to_dict() | routed, lambda out: _print_added(out, added[0], router))
    else:
        document = {"added": [one.to_dict() for one in added], "failed": failed} | routed
        session.answer(document, lambda out: _print_summary(out, added, failed, router))
    for one in added:
        for warning in one.warnings:
            session.remark(f"warning: {one.expert.task}: {warning}")
    if router is None and added:
        session.remark("next: expertbank retrain-router")
    if failed:
        raise typer.Exit(max(failure["code"] for failure in failed))


def _print_added(console: Console, result: AddResult, router: RouterResult | None) -> None:
    expert, facts = result.expert, result.train
    print_facts(
        console,
        [
            ("expert", f"{expert.id}  {short(expert.digest)}"),
            (
                "parameters",
                f"{expert.adapter_params:,} adapter + {expert.head_params:,} head, "
                f"{size(expert.bytes)} on disk",
            ),
            (
                "trained on",
                f"{facts['examples']:,} rows, {facts['epochs']} epochs, "
                f"{facts['seconds']:.0f} s, {facts['tokens_per_second']:,.0f} tokens/s",
            ),
            *_quality(expert.kind, result.metrics),
        ],
    )
    if router:
        print_facts(console, [("router", f"router@{router.router.version} active")])


def _print_summary(
    console: Console,
    added: Sequence[AddResult],
    failed: Sequence[dict[str, Any]],
    router: RouterResult | None,
) -> None:
    print_table(
        console,
        ("task", "expert", "quality", "rows", "seconds"),
        [
            (
                one.expert.task,
                one.expert.id,
                " ".join(_quality(one.expert.kind, one.metrics)[0]),
                one.train["examples"],
                f"{one.train['seconds']:.0f}",
            )
            for one in added
        ]
        + [(one["task"], "FAILED", one["message"], "", "") for one in failed],
        numeric=("rows", "seconds"),
    )
    if router:
        print_facts(console, [("router", f"router@{router.router.version} active")])


def _quality(kind: str, metrics: dict[str, Any]) -> list[tuple[str, str]]:
    from expertbank.kinds import KINDS

    own = KINDS.get(kind)
    name, value = own.headline(metrics)
    text = f"{share(value)} on {metrics['n']:,} validation rows"
    if metrics["majority"] is not None:
        text += f" (majority class {metrics['majority']:.3f}, {_verdict(metrics)})"
    beside = own.beside(metrics)
    return [(name, text), *([("", beside)] if beside else [])]


def _verdict(metrics: dict[str, Any]) -> str:
    p = metrics["p_beats_majority"]
    return f"beaten, p = {p:.2g}" if p < 0.05 else f"not shown to be beaten, p = {p:.2g}"
