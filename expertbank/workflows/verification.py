"""Running stored evaluations again: the same rows, the same batches, the real model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from expertbank.errors import ExpertBankError, IntegrityError
from expertbank.evaluation.evidence import Floats, OracleEvidence
from expertbank.evaluation.forgetting import RouterView
from expertbank.evaluation.scores import quality
from expertbank.records import (
    EvaluationRecord,
    ExpertRecord,
    ProgressCallback,
    ProgressEvent,
    Row,
)
from expertbank.tasks import TaskSpec, encode_rows, find_rows
from expertbank.workflows.workspace import Workspace

if TYPE_CHECKING:
    from expertbank.workflows.measure import Answers

MARGIN_TOLERANCE = 1e-3
"""In another environment a label may differ where the two highest logits are this close."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What running one expert's rows again found.

    Attributes:
        rows: rows run again.
        unverifiable: rows whose source is gone.
        quality: accuracy (regression: Pearson) now; ``None`` unless all rows were run.
        max_logit_difference: largest difference from the stored logits.
        same_environment: whether threads, device and packages are those of the first run.
        within_tolerance: digests of rows whose label differs, but within the tolerance.
    """

    rows: int
    unverifiable: int
    quality: float | None
    max_logit_difference: float
    same_environment: bool
    within_tolerance: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "rows": self.rows,
            "unverifiable": self.unverifiable,
            "max_logit_difference": self.max_logit_difference,
            "same_environment": self.same_environment,
            "within_tolerance": list(self.within_tolerance),
        }


def verify_expert(
    workspace: Workspace,
    expert: ExpertRecord,
    stored: EvaluationRecord,
    oracle: OracleEvidence,
    views: Sequence[RouterView],
    progress: ProgressCallback,
) -> Verified:
    """Run one expert's evaluation rows through the real model again.

    Raises:
        IntegrityError: the first row whose answer or choice differs; rows that are gone are
            counted, not refused.
    """
    from expertbank.workflows.measure import answers

    rows = rows_again(workspace, expert, oracle, progress)
    places = [place for place, row in enumerate(rows) if row is not None]
    same = _same_environment(workspace, stored)
    if not places:
        return Verified(0, len(rows), None, 0.0, same, ())
    encoded = encode_rows(
        [row for row in rows if row is not None],
        workspace.backbone.tokenizer,
        expert.kind,
        expert.labels,
        workspace.spec.max_length,
    )
    again = answers(workspace.model, encoded, expert.id, expert.kind, progress)
    tolerated = _compare_answers(expert, oracle, again, rows, places, exact=same)
    if views and len(places) == len(rows):
        _compare_choices(workspace, expert, views[-1], again, rows, exact=same)
    logits = again.logits.numpy()
    complete = len(places) == len(rows)
    return Verified(
        len(places),
        len(rows) - len(places),
        quality(replace(oracle, logits=logits)) if complete else None,
        _largest_difference(logits, oracle.logits[places]),
        same,
        tuple(tolerated),
    )


def rows_again(
    workspace: Workspace, expert: ExpertRecord, oracle: OracleEvidence, progress: ProgressCallback
) -> list[Row | None]:
    """The evaluation rows read from their source again; ``None`` where a row is gone."""
    progress(ProgressEvent(f"reading the rows of {expert.id} again", 0, 1))
    assert expert.run_id is not None
    data = workspace.registry.run(expert.run_id).data
    spec = TaskSpec.from_dict(data["spec"], expert.task)
    try:
        found = find_rows(spec, str(data["source"]), oracle.row_digests)
    except ExpertBankError:
        found = {}  # the source is gone or no longer readable: its rows count as unverifiable
    return [found.get(digest) for digest in oracle.row_digests]


def _same_environment(workspace: Workspace, stored: EvaluationRecord) -> bool:
    before = {key: value for key, value in stored.environment.items() if key != "batch_plan"}
    return before == workspace.environment()


def _compare_answers(
    expert: ExpertRecord,
    oracle: OracleEvidence,
    again: Answers,
    rows: Sequence[Row | None],
    places: Sequence[int],
    *,
    exact: bool,
) -> list[str]:
    """Digests of tolerated differences.

    Raises:
        IntegrityError: the first row whose label differs beyond what is tolerated.
    """
    tolerated = []
    predicted = again.logits.argmax(1).tolist()
    complete = len(places) == len(rows)
    for index, place in enumerate(places):
        before, now = int(oracle.predicted[place]), int(predicted[index])
        if oracle.is_value:
            old, new = float(oracle.values[place]), float(again.logits[index, 0])
            same, close = old == new, abs(old - new) < MARGIN_TOLERANCE * (1 + abs(old))
            said: tuple[object, object] = (old, new)
        else:
            top = sorted(oracle.logits[place].tolist(), reverse=True)
            same, close = before == now, top[0] - top[1] < MARGIN_TOLERANCE
            said = expert.labels[before], expert.labels[now]
        if same:
            continue
        # Other batches, threads or versions move the last bits of a sum; see the report's help.
        if not (exact and complete) and close:
            tolerated.append(oracle.row_digests[place])
            continue
        raise IntegrityError(
            f"{_where(rows[place], oracle.row_digests[place])}: {expert.id} answered "
            f"{said[0]!r} when it was added and answers {said[1]!r} now"
        )
    return tolerated


def _largest_difference(now: Floats, before: Floats) -> float:
    """Over the classes and choices that exist; columns beyond them are ``-inf`` on both sides."""
    width = min(now.shape[1], before.shape[1])
    real = np.isfinite(before[:, :width])
    return float(np.abs(now[:, :width][real] - before[:, :width][real]).max())


def _compare_choices(
    workspace: Workspace,
    expert: ExpertRecord,
    view: RouterView,
    again: Answers,
    rows: Sequence[Row | None],
    *,
    exact: bool,
) -> None:
    router = workspace.router(workspace.registry.router(view.version))
    choice = router.route(again.features, [row.shape for row in rows if row is not None])
    scores = router.scores(again.features).topk(min(2, len(router.columns)), dim=1).values
    for place, row in enumerate(rows):
        before, now = int(view.evidence.choice[place]), int(choice.index[place])
        close = len(router.columns) > 1 and float(scores[place, 0] - scores[place, 1]) < 1e-3
        if before != now and (exact or not close):
            raise IntegrityError(
                f"{_where(row, row.digest if row else '')}: router@{view.version} chose "
                f"{' + '.join(view.columns[before])} when it was fitted and chooses "
                f"{' + '.join(view.columns[now])} now"
            )


def _where(row: Row | None, digest: str) -> str:
    return f"{row.origin if row and row.origin else 'row'} (row digest {digest[:12]}…)"
