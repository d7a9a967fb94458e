"""Running stored evaluations again: the same rows, the same batches, the real model."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from expertbank.data import encode_rows
from expertbank.errors import IntegrityError, NotFoundError
from expertbank.evaluation.history import RouterView
from expertbank.evaluation.predictions import Floats, Predictions
from expertbank.files.header import read_header
from expertbank.kinds import KINDS
from expertbank.kinds.kind import Kind
from expertbank.records import (
    EncodedRow,
    EvaluationRecord,
    ExpertRecord,
    ProgressCallback,
    Row,
)
from expertbank.workflows.proving.evidence import RESTORE
from expertbank.workflows.proving.source_rows import rows_again
from expertbank.workflows.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor

    from expertbank.routing.router import Router
    from expertbank.workflows.measure import Measured

MARGIN_TOLERANCE = 1e-3
"""In another environment a label may differ where the two highest logits are this close."""

SAMPLE_SEED = 0
"""Two samples of the same bank are the same rows."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What running one expert's rows again found.

    Attributes:
        rows: rows run again.
        of: rows there are; fewer are run where a sample was asked for.
        unverifiable: rows that were to be run and are gone from their source.
        reason: why they could not be run, and what to do; ``None`` where all were.
        quality: accuracy (regression: Pearson) now; ``None`` unless all rows were run.
        max_logit_difference: largest difference from the stored logits; ``None`` where no row
            was run.
        same_environment: whether threads, device and packages are those of the first run.
        within_tolerance: digests of rows whose label differs, but within the tolerance.
    """

    rows: int
    of: int
    unverifiable: int
    reason: str | None
    quality: float | None
    max_logit_difference: float | None
    same_environment: bool
    within_tolerance: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "rows": self.rows,
            "of": self.of,
            "unverifiable": self.unverifiable,
            "reason": self.reason,
            "max_logit_difference": self.max_logit_difference,
            "same_environment": self.same_environment,
            "within_tolerance": list(self.within_tolerance),
        }


def verify_expert(
    workspace: Workspace,
    expert: ExpertRecord,
    stored: EvaluationRecord,
    oracle: Predictions,
    chosen: tuple[RouterView, Router] | None,
    progress: ProgressCallback,
    *,
    sample: int | None = None,
) -> Verified:
    """Run an expert's evaluation rows through the real model again.

    Args:
        workspace: the open bank.
        expert: the expert.
        stored: its evaluation with the expert named.
        oracle: the answers stored then.
        chosen: what the router reported on chose for the rows, and that router, if it knows
            the expert.
        progress: told as batches finish.
        sample: run only so many rows; which, a fixed seed and the task's name decide.

    Raises:
        IntegrityError: the expert's file has another task or other labels than the registry says,
            or the first row whose answer or choice differs; rows that are gone are counted, not
            refused.
    """
    from expertbank.workflows.measure import answers

    _require_own_file(workspace, expert)
    wanted = _wanted(expert.task, len(oracle.row_digests), sample)
    rows, why = rows_again(workspace, expert, [oracle.row_digests[row] for row in wanted], progress)
    there = {place: row for place, row in zip(wanted, rows, strict=True) if row is not None}
    same = _same_environment(workspace, stored)
    total, gone = len(oracle.row_digests), len(wanted) - len(there)
    if not there:
        return Verified(0, total, gone, why, None, None, same, ())
    places, kind = list(there), KINDS.get(expert.kind)
    encoded = encode_rows(
        list(there.values()),
        workspace.backbone.tokenizer,
        kind,
        expert.labels,
        workspace.spec.max_length,
    )
    encoded = [
        _as_stored(row, oracle.logits[place]) for place, row in zip(there, encoded, strict=True)
    ]
    again = answers(workspace.model, encoded, expert.digest, progress)
    # Sums depend on which rows share a batch, so only a whole run can be held to the bit.
    complete = len(places) == total
    tolerated = _compare_answers(expert, kind, oracle, again, there, exact=same and complete)
    if chosen is not None:
        _compare_choices(*chosen, again, there, exact=same and complete)
    logits = again.logits.numpy()
    found = replace(oracle, logits=logits, texts=again.texts) if complete else None
    return Verified(
        len(places),
        total,
        gone,
        why,
        None if found is None else kind.outcome(found).quality(),
        _largest_difference(logits, oracle.logits[places]),
        same,
        tuple(tolerated),
    )


def _require_own_file(workspace: Workspace, expert: ExpertRecord) -> None:
    facts = read_header(workspace.store.get(expert.digest), expert.id).metadata
    said = {"task": expert.task, "kind": expert.kind, "labels": list(expert.labels)}
    for name, own in said.items():
        if facts.get(name) != own:
            raise IntegrityError(
                f"{expert.id}: its file has {name} {facts.get(name)!r}, the registry says {own!r}; "
                f"{RESTORE}"
            )


def check_choices(
    workspace: Workspace,
    expert: ExpertRecord,
    view: RouterView,
    router: Router,
    row_digests: Sequence[str],
) -> None:
    """Route all cached evaluation features again and compare with the stored choices.

    No backbone takes part, so this covers every row even where only a sample is run again.

    Args:
        workspace: the open bank.
        expert: the expert.
        view: what is stored of the router's choices for the expert's rows.
        router: the router.
        row_digests: names of the rows.

    Raises:
        IntegrityError: the first row whose choice differs, or features that changed.
    """
    from expertbank.routing.feature_file import FeatureFile

    try:
        cached = workspace.registry.feature_set(expert.id)
    except NotFoundError:
        return
    if not cached.n_eval:
        return
    file = FeatureFile.from_bytes(workspace.store.get(cached.digest), f"features of {expert.id}")
    stored = view.choice
    choice = router.route(file.evaluation, file.evaluation_shapes).index.numpy()
    # Ranks of equal scores may fall otherwise on another machine; anything more is a change.
    lead = router.lead(file.evaluation, file.evaluation_shapes)
    for row in np.flatnonzero(choice != stored).tolist():
        if lead[row] < MARGIN_TOLERANCE:
            continue
        raise IntegrityError(
            f"row digest {row_digests[row][:12]}… of {expert.id}: "
            f"router@{view.version} chose {' + '.join(view.columns[int(stored[row])])} "
            f"when it was fitted and chooses {' + '.join(view.columns[int(choice[row])])} "
            "now, on the same features"
        )


def _wanted(task: str, count: int, sample: int | None) -> list[int]:
    """Which rows are run again; the same for the same task, in row order."""
    if sample is None or sample >= count:
        return list(range(count))
    draw = np.random.default_rng([SAMPLE_SEED, zlib.crc32(task.encode())])
    return sorted(draw.choice(count, size=sample, replace=False).tolist())


def _as_stored(row: EncodedRow, logits: Floats) -> EncodedRow:
    """A row whose equal choices are merged only if they are in the stored ``logits [width]``.

    What was measured before they were one keeps a logit for each, and is compared as it is.
    """
    apart = any(
        place != same and np.isfinite(logits[place]) for place, same in enumerate(row.first)
    )
    return replace(row, first=()) if apart else row


def _same_environment(workspace: Workspace, stored: EvaluationRecord) -> bool:
    before = {key: value for key, value in stored.environment.items() if key != "batch_plan"}
    return before == workspace.environment()


def _compare_answers(
    expert: ExpertRecord,
    kind: Kind,
    oracle: Predictions,
    again: Measured,
    rows: Mapping[int, Row],
    *,
    exact: bool,
) -> list[str]:
    """Digests of tolerated differences.

    Raises:
        IntegrityError: the first row whose answer differs beyond what is tolerated.
    """
    places = list(rows)
    width = max(oracle.logits.shape[1], again.logits.shape[1])
    stored = oracle.at(places)
    before = replace(stored, logits=_widened(stored.logits, width))
    now = replace(stored, logits=_widened(again.logits, width), texts=again.texts)
    same, near = kind.alike(before, now)
    tolerated = []
    for index in np.flatnonzero(~same).tolist():
        place = places[index]
        # Other batches, threads or versions move the last bits of a sum; see the report's help.
        if not exact and near[index]:
            tolerated.append(oracle.row_digests[place])
            continue
        said = [_said(expert, kind, side, index, rows[place]) for side in (before, now)]
        raise IntegrityError(
            f"{_where(rows[place], oracle.row_digests[place])}: {expert.id} answered "
            f"{said[0]!r} when it was added and answers {said[1]!r} now"
        )
    return tolerated


def _said(expert: ExpertRecord, kind: Kind, stored: Predictions, place: int, row: Row) -> str:
    """The answer that is stored of a row, as people read it."""
    import torch

    if stored.texts is not None:
        return kind.of_written(stored.texts[place], row).text
    edges = None if stored.thresholds is None else torch.from_numpy(stored.thresholds)
    return kind.answer(torch.from_numpy(stored.logits[place]), row, expert.labels, edges).text


def _widened(logits: Floats | Tensor, width: int) -> Floats:
    """``logits`` with ``-inf`` columns up to ``width``: a sample may lack the most choices."""
    values = np.asarray(logits, dtype=np.float32)
    return np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=-np.inf)


def _largest_difference(now: Floats, before: Floats) -> float:
    """Over the classes and choices that exist; columns beyond them are ``-inf`` on both sides."""
    width = min(now.shape[1], before.shape[1])
    real = np.isfinite(before[:, :width])
    return float(np.abs(now[:, :width][real] - before[:, :width][real]).max(initial=0.0))


def _compare_choices(
    view: RouterView,
    router: Router,
    again: Measured,
    rows: Mapping[int, Row],
    *,
    exact: bool,
) -> None:
    shapes = [row.shape for row in rows.values()]
    choice = router.route(again.features, shapes)
    lead = router.lead(again.features, shapes)
    for index, (place, row) in enumerate(rows.items()):
        before, now = int(view.choice[place]), int(choice.index[index])
        if before != now and (exact or lead[index] >= MARGIN_TOLERANCE):
            raise IntegrityError(
                f"{_where(row, row.digest)}: router@{view.version} chose "
                f"{' + '.join(view.columns[before])} when it was fitted and chooses "
                f"{' + '.join(view.columns[now])} now"
            )


def _where(row: Row, digest: str) -> str:
    return f"{row.origin or 'row'} (row digest {digest[:12]}…)"
