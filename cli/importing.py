"""``import``: experts of another bank, and LoRA adapters that PEFT saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from expertbank.config import BankConfig, TrainConfig
from expertbank.settings import build, setting
from expertbank.workflows.growing.effects import OF_ADAPTERS
from expertbank.workflows.growing.request import AddRequest

from . import requests
from .experts import quality, reach
from .following import RETRAIN, Followed
from .options import DataOptions, path, takes
from .render import Table, columns_read, print_facts, print_table, read_as, short
from .session import Session
from .shared_options import DryRun

if TYPE_CHECKING:
    from expertbank.workflows.shipping.import_peft import PeftImported


@dataclass(frozen=True, slots=True)
class PeftOptions:
    """How an adapter is taken in, beside what ``add`` has too."""

    labels: tuple[str, ...] = setting(
        (),
        "With --peft: names of the head's outputs in their order, with commas between, where "
        "neither the adapter nor its rows tell.",
    )
    fit_head: bool = setting(False, "With --peft: fit a head, whatever head it brings.")
    same_base: bool = setting(False, "With --peft: its base is this backbone under another name.")


@takes(
    *(PeftOptions, requests.TaskOptions, AddRequest, DataOptions, TrainConfig, BankConfig),
    without={"rehash", "resume", *OF_ADAPTERS},
)
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
        _import_peft(session, peft, _of_task(task, given), build(PeftOptions, given), new_version)
        return
    if given:
        odd = min(given).replace("_", "-")
        raise InputError(f"--{odd} is for adapters; it goes with --peft DIR")
    assert bundle is not None
    _import_bundle(session, bundle, tuple(task or ()), new_version=new_version, dry_run=dry_run)


def _of_task(task: list[str] | None, given: dict[str, Any]) -> AddRequest:
    """What ``add`` would be asked for the one task of an adapter."""
    from expertbank.errors import InputError

    named = task or []
    if len(named) > 1 or not (named or "spec" in given):
        raise InputError("an adapter is an expert of one task: name it with --task or --spec")
    return requests.request({**given, **({"task": named[0]} if named else {})})


def _import_peft(
    session: Session, peft: Path, wanted: AddRequest, options: PeftOptions, new_version: bool
) -> None:
    labels = [one.strip() for text in options.labels for one in text.split(",")]
    with session.bank(create=True) as bank, session.progress() as progress:
        done = bank.import_peft(
            peft,
            wanted.task,
            data=wanted.data,
            labels=labels,
            fit_head=options.fit_head,
            same_base=options.same_base,
            train=wanted.train,
            group=wanted.group,
            new_version=new_version,
            bank=wanted.bank,
            progress=progress,
        )
    after = Followed(RETRAIN)
    session.answer(after.beside(done.to_dict()), lambda console: _print_peft(console, done))
    for warning in done.added.warnings:
        session.remark(f"note: {warning}")
    after.tell(session)


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
    after = Followed(RETRAIN if done.imported and not dry_run else "")

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

    session.answer(after.beside(done.to_dict() | {"todo": ""}), show)
    for remark in done.remarks:
        session.remark(f"note: {remark}")
    after.tell(session)
