"""``import``: experts of another bank, and LoRA adapters that PEFT saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from expertbank.config import BankConfig, TrainConfig
from expertbank.settings import build

from . import requests
from .experts import quality, reach
from .following import RETRAIN
from .options import DataOptions, path, takes
from .render import Table, columns_read, print_facts, print_table, read_as, short
from .session import Session
from .shared_options import DryRun

if TYPE_CHECKING:
    from expertbank.workflows.shipping.import_peft import PeftImported

_OF_ADAPTERS = (
    *("data", "spec", "kind", "group"),
    *("text_column", "pair_column", "choices_column", "label_column", "label_separator"),
    *("separator", "encoding"),
    *("epochs", "head_lr", "patience", "balance", "weight_decay", "batch_size", "warmup"),
    *("seed", "limit", "eval_limit", "selection_share", "selection_floor"),
    *("backbone", "route_layer", "max_length", "dtype", "keep", "store"),
)
"""Options of ``add`` that also go with an adapter: how its rows are read, how a head is fitted,
and what a bank without a backbone shall be."""


@takes(requests.TaskOptions, DataOptions, TrainConfig, BankConfig, only=_OF_ADAPTERS)
def import_experts(
    context: typer.Context,
    bundle: Annotated[
        Path | None,
        typer.Argument(
            parser=path, help="Folder that `export --for-import` wrote, or a .zip of it."
        ),
    ] = None,
    *,
    peft: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            help="Instead: folder of a LoRA adapter that PEFT saved, to be an expert of --task.",
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Only this task; may be given several times. With --peft, its task."),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            help="With --peft: names of the head's outputs in their order, with commas between, "
            "where neither the adapter nor its rows tell."
        ),
    ] = None,
    fit_head: Annotated[
        bool,
        typer.Option("--fit-head", help="With --peft: fit a head, whatever head it brings."),
    ] = False,
    same_base: Annotated[
        bool,
        typer.Option(
            "--same-base", help="With --peft: its base is this backbone under another name."
        ),
    ] = False,
    new_version: Annotated[
        bool, typer.Option("--new-version", help="Allow a further version of a known task.")
    ] = False,
    dry_run: DryRun = False,
    **given: Any,
) -> None:
    """Take experts over from another bank's bundle, or a LoRA adapter in.

    From a bundle with their lineage, features and evidence, so that the next router routes to
    them and the report counts them. Everything is checked before anything is written; an archive
    is read member by member and never unpacked.

    With --peft DIR --task T --data SRC an adapter of PEFT becomes an expert: its factors go in as
    they are, with the head that was saved with it, or one fitted on the rows where there is none.
    It is measured on the rows as `add` does. The other options are those of `add`.

    Example: expertbank import ./bundle-of-another-team --task tickets
    """
    from expertbank.errors import InputError

    session: Session = context.obj
    if (bundle is None) == (peft is None):
        raise InputError("name one thing to import: a bundle, or an adapter with --peft DIR")
    if peft is not None:
        if dry_run:
            raise InputError("--dry-run is for bundles; `tasks check` tries out an adapter's rows")
        wanted = _of_task(task, given)
        named = tuple(one.strip() for text in labels or () if text for one in text.split(","))
        _import_peft(
            session,
            given,
            {
                **{name: wanted[name] for name in ("task", "data", "train", "group")},
                "source": peft,
                "labels": named,
                "fit_head": fit_head,
                "same_base": same_base,
                "new_version": new_version,
            },
        )
        return
    own = {"labels": labels, "fit_head": fit_head, "same_base": same_base}
    odd = sorted([*given, *(name for name, value in own.items() if value)])
    if odd:
        raise InputError(f"--{odd[0].replace('_', '-')} is for adapters; it goes with --peft DIR")
    assert bundle is not None
    _import_bundle(session, bundle, tuple(task or ()), new_version=new_version, dry_run=dry_run)


def _of_task(task: list[str] | None, given: dict[str, Any]) -> dict[str, Any]:
    """What ``add`` would take for the one task of an adapter."""
    from expertbank.errors import InputError

    named = task or []
    if len(named) > 1 or not (named or "spec" in given):
        raise InputError("an adapter is an expert of one task: name it with --task or --spec")
    return requests.arguments({**given, **({"task": named[0]} if named else {})})


def _import_peft(session: Session, given: dict[str, Any], wanted: dict[str, Any]) -> None:
    config = build(BankConfig, given)
    with session.bank(create=True) as bank, session.progress() as progress:
        done = bank.import_peft(**wanted, bank=config, progress=progress)
    session.answer(done.to_dict() | {"todo": RETRAIN}, lambda console: _print_peft(console, done))
    for warning in done.added.warnings:
        session.remark(f"note: {warning}")
    session.remark(f"next: {RETRAIN}")


_HEADS = {"export": "of the bank that exported it", "saved": "saved with the adapter"}
_LABELS = {
    "given": "named by --labels",
    "export": "named by the export",
    "config": "named by config.json",
    "data": "of the rows",
}


def _print_peft(console: Console, done: PeftImported) -> None:
    added, origin = done.added, done.origin
    expert, adapter, facts = added.expert, added.adapter, added.train
    fitted = f"fitted on {facts['examples']:,} rows, {facts['epochs_trained']} epochs"
    print_facts(
        console,
        [
            ("expert", f"{expert.id}  {short(expert.digest)}"),
            (
                "adapter",
                f"{short(origin['adapter'])}  rank {adapter.rank} on {', '.join(adapter.modules)}"
                f"{reach(adapter)}",
            ),
            ("base", origin["base_model"] or "not told"),
            ("head", _HEADS.get(origin["head"], fitted)),
            ("labels", f"{len(expert.labels)}, {_LABELS[origin['labels']]}"),
            ("columns read", columns_read(added.data["columns"])),
            *(("read as", words) for words in read_as(added.data["files"])),
            *quality(expert.kind, added.metrics),
        ],
    )


def _import_bundle(
    session: Session, bundle: Path, tasks: tuple[str, ...], *, new_version: bool, dry_run: bool
) -> None:
    with (
        session.bank(create=not dry_run, read_only=dry_run) as bank,
        session.progress() as progress,
    ):
        done = bank.import_bundle(
            bundle,
            tasks=tasks,
            new_version=new_version,
            dry_run=dry_run,
            progress=progress,
        )
        left = RETRAIN if done.imported and not dry_run else ""

    def show(console: Console) -> None:
        word = "would be imported" if dry_run else "imported"
        print_table(
            console,
            Table(("expert", "digest", "what"), wrapped=("what",)),
            [
                *((expert.id, short(expert.digest), word) for expert in done.imported),
                *((skipped.expert, "", f"skipped: {skipped.why}") for skipped in done.skipped),
            ],
        )

    session.answer(done.to_dict() | {"todo": left}, show)
    for remark in done.remarks:
        session.remark(f"note: {remark}")
    if left:
        session.remark(f"next: {left}")
