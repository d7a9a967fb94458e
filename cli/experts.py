"""``init`` and ``add``: what makes a bank grow."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from .render import print_facts, short, size
from .session import Session

Backbone = Annotated[
    str | None,
    typer.Option(help="Hub name or folder of the backbone; default all-MiniLM-L6-v2."),
]
RouteLayer = Annotated[
    int | None,
    typer.Option(
        help="First layer that adapters act on; routing reads its input. Default one third."
    ),
]
MaxLength = Annotated[
    int | None, typer.Option(help="Longest sequence in tokens; longer texts are cut. Default 256.")
]


def init(
    context: typer.Context,
    backbone: Backbone = None,
    route_layer: RouteLayer = None,
    max_length: MaxLength = None,
) -> None:
    """Fix the backbone and feature spec.

    The first `add` does the same by itself. Doing it twice with the same values is harmless.

    Example: expertbank --home ./bank init --max-length 128
    """
    session: Session = context.obj
    with session.bank(create=True, backbone=backbone) as bank:
        record = bank.init(route_layer=route_layer, max_length=max_length)
    spec = record.feature_spec
    document = {
        "home": str(session.home),
        "backbone": {"reference": record.reference, "digest": record.digest},
        "feature_spec": spec.to_dict(),
    }
    session.answer(
        document,
        lambda console: print_facts(
            console,
            [
                ("bank", session.home),
                ("backbone", record.reference),
                ("digest", record.digest),
                ("route layer", spec.route_layer),
                ("feature", f"states {list(spec.states)}, {' and '.join(spec.poolings)} pooling"),
                ("maximum length", f"{spec.max_length} tokens"),
            ],
        ),
    )


def add(
    context: typer.Context,
    task: Annotated[str, typer.Option(help="Catalog name, or a new name together with --data.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Folder or file (.csv .tsv .jsonl .parquet), hf:org/name[:config][@revision], "
            "or pkg:package/path."
        ),
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the text.")] = None,
    pair_column: Annotated[str | None, typer.Option(help="Column of the second text.")] = None,
    choices_column: Annotated[
        str | None, typer.Option(help="Column of the choices (multiple choice).")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the label.")] = None,
    limit: Annotated[int | None, typer.Option(help="Most training rows to use.")] = None,
    eval_limit: Annotated[int | None, typer.Option(help="Most validation rows to use.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows.")] = None,
    tt_rank: Annotated[int | None, typer.Option(help="Inner tensor-train rank.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Multiplier of the update.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate of the cores.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows an optimiser step sees.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds rows, order and start.")] = None,
    new_version: Annotated[
        bool, typer.Option("--new-version", help="Allow a further version of a known task.")
    ] = False,
    retrain_router: Annotated[
        bool, typer.Option("--retrain-router", help="Refit and activate the router afterwards.")
    ] = False,
    backbone: Backbone = None,
    route_layer: RouteLayer = None,
    max_length: MaxLength = None,
) -> None:
    """Train one expert and store it, frozen.

    Example: expertbank add --task boolq --limit 2000 --epochs 3 --retrain-router
    """
    session: Session = context.obj
    from expertbank.config import AdapterConfig, TrainConfig
    from expertbank.tasks import task_spec

    spec = task_spec(
        task,
        text_column=text_column,
        pair_column=pair_column,
        choices_column=choices_column,
        label_column=label_column,
    )
    train = TrainConfig(
        **_given(
            epochs=epochs,
            lr=lr,
            batch_size=batch_size,
            seed=seed,
            limit=limit,
            eval_limit=eval_limit,
        )
    )
    adapter = AdapterConfig(**_given(tt_rank=tt_rank, alpha=alpha))
    with session.bank(create=True, backbone=backbone) as bank, session.progress() as progress:
        result = bank.add(
            spec,
            data=data,
            adapter=adapter,
            train=train,
            new_version=new_version,
            route_layer=route_layer,
            max_length=max_length,
            progress=progress,
        )
        router = bank.retrain_router(progress=progress) if retrain_router else None
    document = result.to_dict() | ({"router": router.to_dict()} if router else {})

    def show(console: Console) -> None:
        expert, metrics, facts = result.expert, result.metrics, result.train
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
                (
                    "accuracy",
                    f"{metrics['accuracy']:.3f} on {metrics['n']:,} validation rows "
                    f"(majority class {metrics['majority']:.3f}, {_verdict(metrics)})",
                ),
            ],
        )
        if router:
            print_facts(console, [("router", f"router@{router.router.version} active")])
        else:
            session.remark("next: expertbank retrain-router")

    session.answer(document, show)


def _verdict(metrics: dict[str, Any]) -> str:
    p = metrics["p_beats_majority"]
    return f"beaten, p = {p:.2g}" if p < 0.05 else f"not shown to be beaten, p = {p:.2g}"


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given: the others keep their defaults in one place, ``config``."""
    return {name: value for name, value in options.items() if value is not None}
