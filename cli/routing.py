"""``retrain-router``, ``forgetting-report`` and ``alias``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console

from .render import moment, print_facts, print_table, share, short, signed
from .session import Session


def retrain_router(
    context: typer.Context,
    kind: Annotated[str | None, typer.Option(help="Gate: ridge, noisy-top1 or mlp.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of noisy-top1 and mlp.")] = None,
    no_activate: Annotated[
        bool, typer.Option("--no-activate", help="Leave the alias `active` where it is.")
    ] = False,
) -> None:
    """Refit only the router.

    Reads cached features, no old text; touches no expert. If nothing changed, the same router
    comes back.

    Example: expertbank retrain-router --kind ridge
    """
    from expertbank.config import RouterConfig

    session: Session = context.obj
    given: dict[str, Any] = {"kind": kind, "seed": seed}
    config = RouterConfig(**{name: value for name, value in given.items() if value is not None})
    with session.bank() as bank, session.progress() as progress:
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
            ("task", "routed to it"),
            ((task, share(value)) for task, value in result.metrics["per_task"].items()),
            numeric=("routed to it",),
        )

    session.answer(result.to_dict(), show)
    for confusion in result.metrics["confusions"]:
        one, other = confusion["tasks"]
        session.remark(
            f"warning: {one} and {other} are taken for each other in "
            f"{confusion['rate']:.0%} of rows; if both answer the same texts, add them with one "
            "--group; otherwise name the task where you know it: predict --task"
        )


def forgetting_report(
    context: typer.Context,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run every evaluation row through the model again.")
    ] = False,
    backbone: Annotated[
        str | None, typer.Option(help="Where the backbone is now, if it has moved.")
    ] = None,
) -> None:
    """Compare every task with its first day.

    What each could do when it was added and can do now, with the expert named and with the
    router choosing. Without --verify it reads stored evidence only: seconds, no text, no
    backbone. Expert files are rehashed either way.

    Example: expertbank forgetting-report --verify
    """
    session: Session = context.obj
    with (
        session.bank(read_only=True, backbone=backbone) as bank,
        session.progress() as progress,
    ):
        report = bank.forgetting_report(verify=verify, progress=progress)
    document = report.to_dict()

    def show(console: Console) -> None:
        print_table(
            console,
            (
                "task",
                "rows",
                "at add",
                "now, named",
                "routed first",
                "routed now",
                "change",
                "flips",
                "expert",
            ),
            (
                (
                    task.expert,
                    task.n,
                    share(task.at_add),
                    share(task.oracle),
                    share(task.routed_at_add),
                    share(task.routed),
                    signed(task.difference),
                    share(task.flip_rate),
                    task.verdict_expert,
                )
                for task in report.tasks
            ),
            title=f"Forgetting report for router@{report.router}" if report.router else "Experts",
            numeric=(
                "rows",
                "at add",
                "now, named",
                "routed first",
                "routed now",
                "change",
                "flips",
            ),
        )
        print_facts(
            console,
            [
                ("expert weights", "unchanged" if report.weights_unchanged else "CHANGED"),
                ("average accuracy", share(document["average_accuracy"])),
                ("backward transfer", signed(document["backward_transfer"])),
                ("forgetting", signed(document["forgetting"])),
                ("routing regret", share(document["routing_regret"])),
            ],
        )
        for task, found in (report.verification or {}).items():
            console.print(
                f"verified {task}: {found['rows']} rows run again, "
                f"{found['unverifiable']} unverifiable, "
                f"largest logit difference {found['max_logit_difference']:.2g}",
                markup=False,
            )

    session.answer(document, show)
    if not report.weights_unchanged:
        from expertbank.errors import IntegrityError

        changed = [task.expert for task in report.tasks if task.verdict_expert == "changed"]
        raise IntegrityError(
            f"the stored files of {', '.join(changed)} no longer match their digests; "
            "restore them from a backup (expertbank verify names the files)"
        )


def alias(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Alias to set.")] = None,
    router: Annotated[
        str | None, typer.Argument(help="Router it shall name: a version, router@N or an alias.")
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
                ("alias", "router", "moves", "last moved (UTC)"),
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
    session.answer(
        asdict(entry),
        lambda console: console.print(
            f"{entry.name} names router@{entry.router_version}", markup=False
        ),
    )
