"""``retrain-router``, ``forgetting-report`` and ``alias``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from expertbank.config import DEFAULT_GATE, DEFAULT_MARGIN, PAPER_GATE
from expertbank.reports.figures import share
from expertbank.routing.config import RouterConfig
from expertbank.routing.gates import GATES

from . import completing
from .following import tell_router
from .forgetting import (
    LEVELS,
    check_writable,
    markdown_of,
    print_report,
    require,
    write_reports,
)
from .options import path
from .render import Table, moment, print_facts, print_table, short
from .session import Session


def retrain_router(
    context: typer.Context,
    kind: Annotated[
        str | None,
        typer.Option(
            help=f"Gate: {', '.join(GATES.names())}; "
            f"default {DEFAULT_GATE}, {PAPER_GATE} with --route-layer 0."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of the gate; may be repeated. docs/settings.md has each gate's.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of gates that are trained.")] = None,
    no_activate: Annotated[
        bool, typer.Option("--no-activate", help="Leave the alias `active` where it is.")
    ] = False,
) -> None:
    """Refit only the router.

    Reads no old text and touches no expert. lda and ridge are solved from exact sums: those of the
    last fit, and of what is new. If nothing changed, the same router comes back.

    Example: expertbank retrain-router --kind mlp --set hidden=64
    """
    session: Session = context.obj
    # What is not legal is refused before the bank is opened, but for the kind that it decides.
    config = RouterConfig.of_text(kind, settings or (), seed) if kind is not None else None
    with session.bank() as bank, session.progress() as progress:
        config = config or RouterConfig.of_text(bank.default_gate, settings or (), seed)
        result = bank.retrain_router(config=config, activate=not no_activate, progress=progress)

    def show(console: Console) -> None:
        router = result.router
        state = "active" if result.active else "not active"
        print_facts(
            console,
            [
                ("router", f"router@{router.version}  {short(router.digest)}  ({state})"),
                ("gate", f"{router.kind}, {router.params:,} parameters"),
                ("routing accuracy", f"{share(result.metrics['accuracy'])} (mean over tasks)"),
                ("old texts read", result.old_texts_read),
            ],
        )
        if not result.metrics["per_task"]:
            return
        print_table(
            console,
            Table(("task", "routed to it"), numeric=("routed to it",)),
            ((task, share(value)) for task, value in result.metrics["per_task"].items()),
        )

    session.answer(result.to_dict(), show)
    tell_router(session, result)
    if no_activate and result.active:
        session.remark(
            f"router@{result.router.version} is active all the same: it was fitted, and chosen, "
            "before; expertbank alias active router@N has an earlier one choose"
        )


def forgetting_report(
    context: typer.Context,
    margin: Annotated[
        float, typer.Option(help="Largest loss of accuracy that counts as preserved.")
    ] = DEFAULT_MARGIN,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run every evaluation row through the model again.")
    ] = False,
    sample: Annotated[
        int | None, typer.Option(help="With --verify, run only so many rows of each task.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Router to compare with; default each task's first.",
            autocompletion=completing.routers,
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="Router to report on; default the active one.",
            autocompletion=completing.routers,
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(parser=path, help="Write one self-contained page.")
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(parser=path, help="Write Markdown; - for stdout, in place of the table."),
    ] = None,
    with_map: Annotated[
        bool,
        typer.Option(
            "--map",
            help="Put the map of the tasks into page and JSON, as --verify does with the page.",
        ),
    ] = False,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit 5 if the verdict is lost; inconclusive (or lost); or if, with --verify, a "
            "row is unverifiable. May be given several times."
        ),
    ] = None,
    max_regret: Annotated[
        float | None,
        typer.Option(
            help="Exit 5 if the router costs a task more than this: its accuracy with the task "
            "named, less that with the router choosing.",
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Where the backbone is now, if it has moved.")
    ] = None,
) -> None:
    """Compare every task with its first day, or any two routers.

    What each task could do then and can do now, with the expert named and with the router
    choosing, and whether a loss is provably below the margin. Without --verify it reads stored
    evidence only: seconds, no text, no backbone. Stored files are rehashed either way.

    Example: expertbank forgetting-report --verify --html report.html --fail-on lost
    """
    session: Session = context.obj
    to_stdout = markdown is not None and str(markdown) == "-"
    for level in fail_on or ():
        if level not in LEVELS:
            known = ", ".join(LEVELS)
            raise typer.BadParameter(
                f"--fail-on takes one of {known}, not {level!r}; for several repeat it"
            )
    if "unverifiable" in (fail_on or ()) and not verify:
        raise typer.BadParameter(
            "--fail-on unverifiable is about rows that are run again; add --verify"
        )
    if max_regret is not None and not 0 <= max_regret <= 1:  # NaN is neither
        raise typer.BadParameter(f"--max-regret is a share from 0 to 1, not {max_regret}")
    if to_stdout and session.as_json:
        raise typer.BadParameter("--json and --markdown - both want stdout; name a file")
    for file in (html, None if to_stdout else markdown):
        if file is not None:
            check_writable(file)
    with (
        session.bank(read_only=True, backbone=backbone) as bank,
        session.progress() as progress,
    ):
        report = bank.forgetting_report(
            margin=margin,
            from_router=start,
            to_router=end,
            verify=verify,
            sample=sample,
            with_map=with_map or (verify and html is not None),
            progress=progress,
        )
    unwritten = write_reports(session, report, html=html, markdown=None if to_stdout else markdown)
    if to_stdout:
        session.plain(markdown_of(report))
    else:
        session.answer(report.to_dict(), lambda console: print_report(console, report))
    if report.unverifiable and not report.rows_run:
        told = "; ".join(f"{task}: {why}" for task, why in report.unverifiable.items())
        session.remark(f"warning: --verify ran no row again: {told}")
    require(report, fail_on or (), max_regret)
    if unwritten is not None:
        raise unwritten


def alias(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Alias to set.")] = None,
    router: Annotated[
        str | None,
        typer.Argument(
            help="Router it shall name: a version, router@N or an alias.",
            autocompletion=completing.routers,
        ),
    ] = None,
) -> None:
    """List aliases, or point one at a router.

    `active` decides which router predict, export and the report use.

    Example: expertbank alias active router@1
    """
    session: Session = context.obj
    if name is None:
        with session.registry() as registry:
            aliases, events = registry.aliases(), registry.alias_events()
        document = {
            "aliases": [asdict(entry) for entry in aliases],
            "events": [asdict(event) for event in events],
        }
        session.answer(
            document,
            lambda console: print_table(
                console,
                Table(("alias", "router", "moves", "last moved (UTC)"), dropped=("moves",)),
                (
                    (
                        entry.name,
                        f"router@{entry.router_version}",
                        sum(event.name == entry.name for event in events),
                        max(moment(e.created_at) for e in events if e.name == entry.name),
                    )
                    for entry in aliases
                ),
            ),
        )
        return
    if router is None:
        raise typer.BadParameter("name the router too, such as: expertbank alias active router@1")
    with session.bank() as bank:
        entry = bank.set_alias(name, router)
        set_to = f"{entry.name} names router@{entry.router_version}"
        session.did(set_to)
    session.answer(asdict(entry), lambda console: console.print(set_to, markup=False))
