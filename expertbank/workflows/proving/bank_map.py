"""The map of a bank: where the tasks of a router lie beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from expertbank.errors import InputError, NotFoundError
from expertbank.records import RouterRecord
from expertbank.reports.bank_map import BankMap, Cloud
from expertbank.workflows.workspace import Workspace

MOST = 60
"""Tasks on one map: of more nobody could tell their clouds apart."""


def bank_map(
    workspace: Workspace, router: str | int = "active", tasks: Sequence[str] = ()
) -> BankMap:
    """The tasks of a router in the two directions that tell them apart best.

    Args:
        workspace: the open bank.
        router: by version, ``router@N`` or alias.
        tasks: those to show; default all that the router knows.

    Raises:
        NotFoundError: no such router, or one of the tasks is not among its members.
        InputError: fewer than two tasks, or more than a map can hold.
        IntegrityError: a stored file is damaged.
    """
    # Torch, which a report that shows no map does without.
    from expertbank.routing.gates.settings import ClosedForm
    from expertbank.routing.plane import plane_of
    from expertbank.workflows.growing.statistics import statistics_of

    record = workspace.registry.router(router)
    members = {name.partition("@")[0]: name for name in record.members}
    if missing := [task for task in tasks if task not in members]:
        raise NotFoundError(
            f"router@{record.version} has no task {missing[0]}; it knows {_some(sorted(members))}"
        )
    shown = sorted(set(tasks) or members)
    if not 2 <= len(shown) <= MOST:
        raise InputError(
            f"a map shows 2 to {MOST} tasks, and these are {len(shown):,}; "
            + ("add a task" if len(members) < 2 else "name some with --task")
        )
    found = [statistics_of(workspace, members[task]) for task in shown]
    plane = plane_of(found, ClosedForm().ridge)
    nearest = plane.distances.fill_diagonal_(float("inf")).min(1)
    return BankMap(
        record.version,
        plane.told,
        tuple(
            Cloud(
                task,
                place[0],
                place[1],
                (spread[0][0], spread[0][1], spread[1][1]),
                shown[number],
                distance,
            )
            for task, place, spread, number, distance in zip(
                shown,
                plane.places.tolist(),
                plane.spreads.tolist(),
                nearest.indices.tolist(),
                nearest.values.tolist(),
                strict=True,
            )
        ),
    )


def map_where_possible(workspace: Workspace, router: RouterRecord) -> BankMap | None:
    """The map of a router's tasks; ``None`` where they are too few or many, or rows were purged."""
    try:
        return bank_map(workspace, router.version) if len(router.members) <= MOST else None
    except (InputError, NotFoundError):
        return None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
