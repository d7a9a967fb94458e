"""``evaluate``: how good one task's answers are on new labelled rows, named and routed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from expertbank.errors import DataError
from expertbank.evaluation.scores import pearson
from expertbank.records import ProgressCallback, Row, no_progress
from expertbank.tasks import Columns, TaskSpec, read_rows
from expertbank.workflows.predict import Prediction, Predictor


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What new rows showed.

    Attributes:
        task: the task.
        expert: the expert that answered when the task was named: the newest.
        metric: ``accuracy``, or ``pearson`` for regression.
        n: rows.
        oracle: quality with the task named.
        routed: quality with the router choosing; a row that went elsewhere counts as wrong
            (regression: as the mean answer). ``None`` without a router.
        routed_to_task: share of rows that the router sent to the task or its group.
        per_label: per label its rows and how many the named expert had right.
        routed_expert: the expert of the task that the router chooses, which may be an older one;
            ``None`` where it knows none.
        routed_expert_oracle: quality of that one with every row given to it, so that ``routed``
            less this is what routing costs; ``None`` without one.
        remark: what to tell the user where ``expert`` and ``routed_expert`` are two.
    """

    task: str
    expert: str
    metric: str
    n: int
    oracle: float | None
    routed: float | None
    routed_to_task: float | None
    per_label: Mapping[str, Mapping[str, int]]
    routed_expert: str | None
    routed_expert_oracle: float | None
    remark: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "task": self.task,
            "expert": self.expert,
            "metric": self.metric,
            "n": self.n,
            "oracle": self.oracle,
            "routed": self.routed,
            "routed_to_task": self.routed_to_task,
            "per_label": {label: dict(counts) for label, counts in self.per_label.items()},
            "routed_expert": self.routed_expert,
            "routed_expert_oracle": self.routed_expert_oracle,
        }


def evaluate(
    predictor: Predictor,
    task: str,
    source: str,
    columns: Columns | None = None,
    progress: ProgressCallback = no_progress,
) -> Evaluated:
    """Answer all labelled rows of ``source`` twice: with the task named, and routed.

    Rows are read with the columns and labels that the named expert was trained on. Where the
    router holds another version of the task, that one answers all rows too, to compare with.

    Args:
        predictor: of a bank or a bundle.
        task: the task.
        source: file, folder or other source reference.
        columns: where these rows' columns are named differently.
        progress: told as batches finish.

    Raises:
        NotFoundError: the predictor does not know the task.
        DataError: unusable rows, or a label that the expert does not know.
    """
    named, member = predictor.answerer(task), predictor.member(task)
    rows = read_rows(with_columns(predictor.data_spec(named), columns), source)
    for row in rows:
        if named.kind == "classification" and row.label not in named.labels:
            raise DataError(
                f"{row.origin}: label {row.label!r} is not one of {named.id}: "
                + ", ".join(named.labels)
            )
    is_value = named.kind == "regression"
    oracle = list(predictor.predict_with(named, rows, progress=progress))
    quality = _quality(rows, oracle, is_value)
    routed: list[Prediction | None] = []
    if predictor.has_router:
        routed = [_of_task(answer, task) for answer in predictor.predict(rows, progress=progress)]
    own = None if member is None else quality
    if member is not None and member.digest != named.digest:
        given = list(predictor.predict_with(member, rows, progress=progress))
        own = _quality(rows, given, is_value)
    return Evaluated(
        task,
        named.id,
        "pearson" if is_value else "accuracy",
        len(rows),
        quality,
        _quality(rows, routed, is_value) if routed else None,
        sum(answer is not None for answer in routed) / len(rows) if routed else None,
        _per_label(rows, oracle) if named.kind == "classification" else {},
        None if member is None else member.id,
        own,
        predictor.older_member(task),
    )


def with_columns(spec: TaskSpec, columns: Columns | None) -> TaskSpec:
    """The stored task, with the columns of the new rows where they are named differently."""
    if columns is None:
        return spec
    return spec.with_columns(
        text=columns.text,
        text_pair=columns.text_pair,
        choices=columns.choices,
        label=columns.label,
    )


def _of_task(answer: Prediction, task: str) -> Prediction | None:
    """The answer that ``task``'s expert gave, alone or in its group."""
    return next((one for one in (answer, *answer.answers) if one.task == task), None)


def _is_right(row: Row, answer: Prediction | None) -> bool:
    if answer is None:
        return False
    if answer.choice is not None:
        return str(answer.choice) == row.label
    return answer.label == row.label


def _quality(
    rows: Sequence[Row], answers: Sequence[Prediction | None], is_value: bool
) -> float | None:
    if not is_value:
        right = sum(_is_right(row, answer) for row, answer in zip(rows, answers, strict=True))
        return right / len(rows)
    given = [float(answer.label) for answer in answers if answer is not None]
    middle = sum(given) / len(given) if given else 0.0
    values = [middle if answer is None else float(answer.label) for answer in answers]
    return pearson(np.array(values), np.array([float(row.label or "nan") for row in rows]))


def _per_label(
    rows: Sequence[Row], answers: Sequence[Prediction | None]
) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for row, answer in zip(rows, answers, strict=True):
        entry = counts.setdefault(str(row.label), {"n": 0, "right": 0})
        entry["n"] += 1
        entry["right"] += _is_right(row, answer)
    return dict(sorted(counts.items()))
