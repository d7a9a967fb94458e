"""The map of a bank: where the tasks of a router lie beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from expertbank.errors import InputError, NotFoundError
from expertbank.records import ProgressCallback, RouterRecord, Row, no_progress
from expertbank.reports.bank_map import BankMap, Cloud, Spot
from expertbank.wording import few
from expertbank.workflows.presence import require_kept
from expertbank.workflows.workspace import Workspace
from expertbank.writing import FIRST

if TYPE_CHECKING:
    from expertbank.routing.plane import Plane
    from expertbank.workflows.answering.predict import Predictor

MOST = 60
"""Tasks on one map: of more nobody could tell their clouds apart."""
MOST_ROWS = 2_000
"""Rows on one map."""


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
    return _drawn(workspace, workspace.registry.router(router), tasks)[0]


def map_with_rows(
    workspace: Workspace,
    predictor: Predictor,
    rows: Iterable[Row | InputError],
    tasks: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> BankMap:
    """The map of the active router's tasks, and where rows lie on it, unknown ones among them.

    Args:
        workspace: the open bank.
        predictor: of its active router.
        rows: answered as `predict` answers them; in the place of a bad one, what is wrong.
        tasks: as for ``bank_map``.
        progress: told as batches finish.

    Raises:
        NotFoundError: no router, or one that cannot tell unknown rows; or as for ``bank_map``.
        InputError: a row that cannot be read or answered, none or too many; or as there.
        IntegrityError: as there.
    """
    from expertbank.workflows.answering.prediction import Question
    from expertbank.workflows.measure import trunk_features

    given: list[Row] = []
    for row in islice(rows, MOST_ROWS + 1):
        if isinstance(row, InputError):
            raise row
        given.append(row)
    if not 1 <= len(given) <= MOST_ROWS:
        raise InputError(
            f"a map shows 1 to {MOST_ROWS:,} rows, and {'more are' if given else 'none is'} given"
        )
    found, plane = _drawn(workspace, workspace.registry.router("active"), tasks)
    asked: list[Question] = []
    for question in predictor.questions(given, predictor.decision(abstain=True)):
        if isinstance(question, InputError):
            raise question
        asked.append(replace(question, sampling=FIRST))
    answers = predictor.answer(asked, progress=progress)
    features = trunk_features(predictor.model, [one.encoded for one in asked], progress)
    places = plane.seen(plane.grid.steps(features)).tolist()
    spots = (
        Spot(across, up, answer.task, bool(answer.unknown))
        for (across, up), answer in zip(places, answers, strict=True)
    )
    return replace(found, spots=tuple(spots))


def _drawn(
    workspace: Workspace, record: RouterRecord, tasks: Sequence[str]
) -> tuple[BankMap, Plane]:
    # Torch, which a report that shows no map does without.
    from expertbank.routing.gates.settings import ClosedForm
    from expertbank.routing.plane import plane_of
    from expertbank.workflows.growing.statistics import statistics_of

    members = {name.partition("@")[0]: name for name in record.members}
    if missing := [task for task in tasks if task not in members]:
        raise NotFoundError(
            f"router@{record.version} has no task {missing[0]}; it knows {few(sorted(members), 6)}"
        )
    shown = sorted(set(tasks) or members)
    if not 2 <= len(shown) <= MOST:
        raise InputError(
            f"a map shows 2 to {MOST} tasks, and these are {len(shown):,}; "
            + ("add a task" if len(members) < 2 else "name some with --task")
        )
    require_kept(workspace, record, shown)
    found = [statistics_of(workspace, members[task]) for task in shown]
    plane = plane_of(found, ClosedForm().ridge)
    nearest = plane.distances.fill_diagonal_(float("inf")).min(1)
    drawn = BankMap(
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
    return drawn, plane


def map_where_possible(workspace: Workspace, router: RouterRecord) -> BankMap | None:
    """The map of a router's tasks; ``None`` where they are too few or many, or rows were purged."""
    try:
        return bank_map(workspace, router.version) if len(router.members) <= MOST else None
    except (InputError, NotFoundError):
        return None
