"""``init`` and ``add``: what makes a bank grow."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from expertbank.config import DEFAULT_ADAPTER, AdapterConfig, BankConfig
from expertbank.plain import several
from expertbank.reports.figures import share
from expertbank.settings import build
from expertbank.wording import count

from . import requests
from .ending import described
from .following import RETRAIN, follow
from .options import takes
from .outcome import Outcome
from .render import (
    Table,
    columns_read,
    not_read,
    print_facts,
    print_table,
    printable,
    read_as,
    short,
    size,
    sparkline,
)
from .session import Session
from .shared_options import RetrainRouter

if TYPE_CHECKING:
    from expertbank.workflows.growing.add import AddResult


@takes(BankConfig)
def init(context: typer.Context, **given: Any) -> None:
    """Fix the backbone and feature spec.

    The first `add` does the same by itself. Doing it twice with the same values is harmless.

    Example: expertbank --home ./bank init --max-length 128
    """
    session: Session = context.obj
    config = build(BankConfig, given)
    with session.bank(create=True) as bank:
        record = bank.init(config)
        session.did(f"the bank at {session.home} has its backbone")
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


@takes(*requests.PER_TASK, BankConfig)
def add(
    context: typer.Context,
    *,
    list_file: Annotated[
        str | None,
        typer.Option(
            "--list", help="YAML list of tasks to add one after the other, with these options."
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            help="Train those of a list at once: processes:N on this machine, ray, or "
            "ray://HEAD:PORT.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, help="Threads of each worker of --on; default its share of cores."
        ),
    ] = None,
    retrain_router: RetrainRouter = False,
    **given: Any,
) -> None:
    """Train one expert and store it, frozen.

    With --list, several: a YAML list of mappings whose keys are these options (`task`, `data`,
    `label_column`, ...). One that fails does not stop the others. With --on they are trained at
    once, and this process alone writes the bank.

    Example: expertbank add --task boolq --limit 2000 --epochs 3 --retrain-router
    """
    from expertbank.errors import InputError

    session: Session = context.obj
    if list_file is None and not {"task", "spec"} & set(given):
        raise InputError("name the task with --task, --spec or --list; expertbank tasks lists some")
    if list_file is None and on is not None:
        raise InputError("--on trains those of a list at once: give one with --list")
    if on is None and threads is not None:
        raise InputError("--threads is for the workers of --on: give --on, or leave it out")
    crowd = None if on is None else requests.crowd_of(on, threads, session.device)
    wanted = [requests.request(given)] if list_file is None else requests.of_list(list_file, given)
    with session.bank(create=True) as bank, session.progress() as progress:
        try:
            with redirect_stdout(sys.stderr):  # Ray prints what became of its workers
                found = bank.add_many(wanted, crowd, progress=progress)
        except KeyboardInterrupt:
            session.outcome.resume = _resumable(session.outcome, bank.unfinished())
            raise
        if list_file is None and isinstance(found[0], Exception):
            raise found[0]
        added = [one for one in found if not isinstance(one, Exception)]
        refit, todo = retrain_router and bool(added), RETRAIN if added else ""
        after = follow(session, bank, progress, retrain=refit, todo=todo)
    failed: list[dict[str, Any]] = []
    for asked, result in zip(wanted, found, strict=True):
        if isinstance(result, Exception):
            code, message = described(result)
            failed.append({"task": asked.name, "code": code, "message": message})
    every = {"added": [one.to_dict() for one in added], "failed": failed}

    def show(console: Console) -> None:
        if list_file is None:
            _print_added(console, added[0])
        else:
            _print_summary(console, added, failed)
        if after.router is not None:
            print_facts(console, [("router", after.routing)])

    session.answer(after.beside(added[0].to_dict() if list_file is None else every), show)
    after.tell(session)
    if failed:
        raise typer.Exit(max(failure["code"] for failure in failed))


def _resumable(outcome: Outcome, tasks: Sequence[str]) -> str:
    """How the training of tasks goes on; nothing of those whose expert was added just now."""
    last = outcome.done[-1] if outcome.done else ""
    kept = " and ".join(task for task in tasks if not last.startswith(f"{task}@"))
    if not kept:
        return ""
    again = outcome.again + ("" if "--resume" in outcome.words else " --resume")
    return f"; training of {kept} is kept so far, go on with: {again}"


def _print_added(console: Console, result: AddResult) -> None:
    expert = result.expert
    print_facts(
        console,
        [
            ("expert", f"{expert.id}  {short(expert.digest)}"),
            *(
                _trained(console, result)
                if result.external_adapter is None
                else _not_trained(result)
            ),
            ("columns read", columns_read(result.data["columns"])),
            *(("not read", words) for words in not_read(result.data.get("unread", ()))),
            *(("read as", words) for words in read_as(result.data["files"])),
            *(quality(expert.kind, result.metrics) if result.external_adapter is None else ()),
        ],
    )


def _trained(console: Console, result: AddResult) -> list[tuple[str, str]]:
    expert, facts = result.expert, result.train
    adapter = f"{expert.adapter_params:,} adapter{_kind(result)}{reach(result.adapter)}"
    return [
        ("parameters", f"{adapter} + {expert.head_params:,} head, {size(expert.bytes)} on disk"),
        *_smaller(result),
        *_tuned(result.tuning),
        (
            "trained on",
            f"{facts['examples']:,} rows, {_epochs(facts)}, "
            f"{facts['seconds']:.0f} s, {facts['tokens_per_second']:,.0f} tokens/s",
        ),
        *_learned(console, facts),
    ]


def _tuned(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What a search for settings chose, and what it was good for."""
    if found is None:
        return []
    place, tried, before = found["chosen"], found["trials"], found["score_before"]
    best = found["tried"][place]["settings"]
    settings = ", ".join(f"{name.replace('_', ' ')} {best[name]:.3g}" for name in sorted(best))
    which = (
        f"trial {place + 1} of {tried}" if place else f"as given, best of {count(tried, 'trial')}"
    )
    short_of = "" if tried == found["wished"] else f" ({found['wished']} wished, the time was up)"
    gain = "" if not place or before is None else f", as given {before:.3f}"
    return [("tuned", f"{which}{short_of}: {settings}; held-out score {found['score']:.3f}{gain}")]


def _not_trained(result: AddResult) -> list[tuple[str, str]]:
    given = result.train["examples"] + result.train["selection_examples"]
    rows = f"{given:,} rows to route by, {result.metrics['n']:,} to report on"
    return [
        ("answered by", f"adapter {printable(result.external_adapter or '')}, elsewhere"),
        ("read", f"{rows}; nothing was trained"),
    ]


def _epochs(facts: Mapping[str, Any]) -> str:
    """How many there were, and that there could have been more."""
    trained, most = facts["epochs_trained"], facts["epochs"]
    early = "" if trained == most else f"{trained} of at most "
    return f"{early}{count(most, 'epoch')}"


def _learned(console: Console, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the held-out score went from epoch to epoch."""
    curve = facts["curve"]
    line = sparkline(console, curve)
    if not line:
        return []
    kept = f"epoch {facts['best_epoch']} kept, of {facts['selection_examples']:,} held-out rows"
    return [("learned", f"{share(curve[0])} {line} {share(max(curve))} ({kept})")]


def _kind(result: AddResult) -> str:
    """What the adapter is, where it is no train of one rank."""
    wish = result.adapter
    if wish.kind == DEFAULT_ADAPTER and wish.tt_rank is None:
        least = result.expert.adapter_params == result.train["rank_one_params"]
        return " (as LoRA of rank 1)" if least else ""
    if wish.kind == DEFAULT_ADAPTER and isinstance(wish.tt_rank, int):
        return ""
    size = wish.rank if wish.tt_rank is None else wish.tt_rank
    return f" ({wish.kind}, rank {','.join(map(str, several(size)))})"


def reach(adapter: AdapterConfig) -> str:
    """From which layer on it acts, where that is not the route layer."""
    return "" if adapter.first_layer is None else f" from layer {adapter.first_layer} on"


def _smaller(result: AddResult) -> list[tuple[str, str]]:
    """That LoRA has fewer numbers than a train here, and what was found of both."""
    least = result.train["rank_one_params"]
    if result.adapter.kind != DEFAULT_ADAPTER or result.expert.adapter_params <= least:
        return []
    found = "was more accurate at widths of 384 and 576"  # examples/benchmarks/together.py
    return [("smaller", f"--adapter lora --rank 1 has {least:,} numbers, and {found}")]


def _print_summary(
    console: Console,
    added: Sequence[AddResult],
    failed: Sequence[dict[str, Any]],
) -> None:
    print_table(
        console,
        Table(
            ("task", "expert", "quality", "rows", "seconds"),
            numeric=("rows", "seconds"),
            wrapped=("quality",),
            dropped=("seconds", "rows"),
        ),
        [
            (
                one.expert.task,
                one.expert.id,
                _summed_up(one),
                one.train["examples"],
                f"{one.train['seconds']:.0f}",
            )
            for one in added
        ]
        + [(one["task"], "FAILED", one["message"], "", "") for one in failed],
    )


def _summed_up(result: AddResult) -> str:
    if result.external_adapter is not None:
        return f"answered elsewhere, by adapter {printable(result.external_adapter)}"
    return " ".join(quality(result.expert.kind, result.metrics)[0])


def quality(kind: str, metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """What an expert's metrics say, as facts to print."""
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
