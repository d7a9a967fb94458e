"""``unknowns``: rows that the bank calls unknown, in groups of rows that are alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt

from expertbank.backbones.batches import EVALUATION_BATCH
from expertbank.config import TYPICAL_ROWS, UNKNOWN_GROUPS
from expertbank.data import RowLike, as_rows
from expertbank.errors import InputError, NotFoundError
from expertbank.evaluation.likeness import Known, alike
from expertbank.models.embedding import embedding
from expertbank.models.routed import RoutedModel
from expertbank.records import ProgressCallback, Row, no_progress
from expertbank.settings import number
from expertbank.training.loop import Meter
from expertbank.workflows.answering.collected import Collected, DistinctRows
from expertbank.workflows.answering.decision import Decision, unanswerable
from expertbank.workflows.answering.kept_rows import KeptRows
from expertbank.workflows.answering.predict import Predictor
from expertbank.workflows.answering.prediction import Prediction, Question
from expertbank.workflows.answering.reading import CHUNK
from expertbank.workflows.answering.unknown_groups import Unknowns, in_order, told
from expertbank.writing import FIRST

MOST = 100_000
"""Distinct unknown rows that are compared."""
MOST_KNOWN = 1_000
"""Distinct known rows that tell how wide a task is."""


def unknowns(
    predictor: Predictor,
    rows: RowLike | Iterable[RowLike | InputError],
    *,
    groups: int = UNKNOWN_GROUPS,
    typical: int = TYPICAL_ROWS,
    out: str | Path | None = None,
    on_bad: Callable[[InputError], None] | None = None,
    progress: ProgressCallback = no_progress,
    total: int = 0,
) -> Unknowns:
    """Route rows, and group those that are unknown by what the bare backbone makes of them.

    The same rows give the same groups, whatever their order. Rows that are known tell how wide a
    group may be. Of many rows, the groups are made from a sample and the others go to the nearest
    one. Texts are kept nowhere but in ``out``.

    Args:
        predictor: of a bank or a bundle.
        rows: one row or many, as for ``Predictor.predict``; a stream is read as it is routed.
        groups: how many of the largest groups to tell of.
        typical: how many rows of each.
        out: file to make with the rows of these groups as JSON lines, each distinct row once,
            with the number of its group and how often it stood there; not made without groups.
        on_bad: as for ``Predictor.predict``.
        progress: told as batches finish.
        total: how many rows there are, for ``progress``; 0 when nobody knows.

    Raises:
        NotFoundError: no router, or one that cannot tell unknown rows.
        InputError: a row that cannot be read or answered, numbers below 1, or no folder for
            ``out``.
        ExistsError: ``out`` is there already.
        ExpertBankError: ``out`` cannot be written.
    """
    groups = number(groups, "groups", "unknowns", int, least=1)
    typical = number(typical, "typical", "unknowns", int, least=1)
    if not predictor.has_router:
        raise NotFoundError(
            "there is no router yet, which is what tells unknown rows; run: expertbank "
            "retrain-router"
        )
    decision = predictor.decision(abstain=True)  # refuses a router that cannot tell
    strange, known, count = DistinctRows(MOST), DistinctRows(MOST_KNOWN), 0
    with nullcontext() if out is None else KeptRows(out) as kept:
        for row, answer in _answered(predictor, rows, decision, on_bad, progress, total):
            count += 1
            found, digest = strange if answer.unknown else known, row.digest
            if found.counted(digest):
                continue
            (asked,) = predictor.questions([row], decision)
            assert isinstance(asked, Question), "what was answered can be read"
            tasks = tuple(one.task for one in answer.answers or (answer,))
            place = kept.put(row) if kept is not None and answer.unknown else None
            found.add(row, asked.encoded, digest, answer.index, tasks, place)
        collected = list(strange)
        counts = np.array([one.count for one in collected], dtype=np.int64)
        vectors = _vectors(predictor.model, collected, progress)
        likeness = alike(vectors, counts, _known(predictor.model, known, progress))
        if kept is not None and likeness.count:
            chosen = ((number, collected[place]) for number, place in in_order(likeness, groups))
            kept.write((number + 1, one.count, one.place or 0) for number, one in chosen)
    return told(count, strange.total, collected, likeness, groups, typical)


def _known(model: RoutedModel, rows: DistinctRows, progress: ProgressCallback) -> Known:
    collected = list(rows)
    numbers: dict[tuple[str, ...], int] = {}
    tasks = [numbers.setdefault(one.tasks, len(numbers)) for one in collected]
    return Known(_vectors(model, collected, progress), np.array(tasks, dtype=np.int64))


def _answered(
    predictor: Predictor,
    rows: RowLike | Iterable[RowLike | InputError],
    decision: Decision,
    on_bad: Callable[[InputError], None] | None,
    progress: ProgressCallback,
    total: int,
) -> Iterator[tuple[Row, Prediction]]:
    """Rows that can be answered, each with its answer, of one that is written the first token."""
    given = as_rows(rows)
    waiting: deque[tuple[int, Row]] = deque()

    def watched() -> Iterator[Row | InputError]:
        for index, row in enumerate(given):
            if isinstance(row, Row):
                wrong = unanswerable(row, decision)
                if wrong is None:
                    waiting.append((index, row))
                yield wrong or row
            else:
                yield row

    answers = predictor.predict(
        watched(),
        abstain=True,
        sampling=FIRST,
        progress=progress,
        on_bad=on_bad,
        total=len(given) if isinstance(given, list) else total,
    )
    for answer in answers:
        index, row = waiting.popleft()
        while index < answer.index:  # a row that the backbone could not read
            index, row = waiting.popleft()
        yield row, answer


def _vectors(
    model: RoutedModel, rows: Sequence[Collected], progress: ProgressCallback
) -> npt.NDArray[np.float16]:
    """``[rows, hidden]``, each of length 1.

    Rows are batched by their length and digest, so that the numbers are the same to the last bit
    whatever order the rows came in.
    """
    found = np.zeros((len(rows), model.backbone.output_size), np.float16)
    order = sorted(range(len(rows)), key=lambda place: (rows[place].length, place))
    meter = Meter("comparing rows", len(rows), progress)
    for start in range(0, len(order), CHUNK):
        places = order[start : start + CHUNK]
        encoded = [rows[place].encoded() for place in places]
        for batch in model.batches(encoded, EVALUATION_BATCH):
            pooled = embedding(model, batch).cpu().numpy()
            units = pooled / np.linalg.norm(pooled, axis=1, keepdims=True).clip(1e-12)
            found[[places[row] for row in batch.rows]] = np.nan_to_num(units)
            meter.advance(len(batch.rows), batch.tokens)
    return found
