"""``evaluate``: how good one task's answers are on new labelled rows, named and routed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from expertbank.data import Columns, ReadAs, TaskSpec, read_rows
from expertbank.errors import DataError, InputError, StaleError
from expertbank.kinds import KINDS
from expertbank.kinds.answer import Answer
from expertbank.records import ProgressCallback, no_progress
from expertbank.workflows.answering.experts import Experts
from expertbank.workflows.answering.predict import Predictor
from expertbank.workflows.answering.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What new rows showed.

    Attributes:
        task: the task.
        expert: the expert that answered when the task was named: the newest.
        metric: what the kind measures: ``accuracy``, or ``pearson`` of values.
        n: rows.
        oracle: quality with the task named.
        routed: quality with the router choosing; a row that went elsewhere counts as wrong
            (of values: as the mean answer). ``None`` without a router.
        routed_to_task: share of rows that the router sent to the task or its group.
        per_label: per label its rows and how many the named expert had right.
        routed_expert: the expert of the task that the router chooses, which may be an older one;
            ``None`` where it knows none.
        routed_expert_oracle: quality of that one with every row given to it, so that ``routed``
            less this is what routing costs; ``None`` without one.
        remark: what to tell the user where ``expert`` and ``routed_expert`` are two, or where the
            router chooses no expert that reads such rows.
        data_remarks: what was left out of the data, and what is odd about the files.
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
    data_remarks: tuple[str, ...] = ()

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
            "data_remarks": list(self.data_remarks),
        }


def evaluate(
    experts: Experts,
    opened: Callable[[], Predictor],
    task: str,
    source: str,
    columns: Columns | None = None,
    read_as: ReadAs | None = None,
    progress: ProgressCallback = no_progress,
    *,
    second_opinion: bool = False,
) -> Evaluated:
    """Answer all labelled rows of ``source`` twice: with the task named, and routed.

    Rows are read with the columns and labels that the named expert was trained on. Where the
    router holds another version of the task, that one answers all rows too, to compare with. Rows
    that no expert of the router reads count as not routed to the task.

    Args:
        experts: of a bank or a bundle.
        opened: their predictor, asked for when the rows are known to be usable: it loads the
            backbone.
        task: the task.
        source: file, folder or other source reference; where it has rows to train on, its test
            rows are read, or else those to validate on.
        columns: where these rows' columns are named differently.
        read_as: separator and encoding, where the file does not tell.
        progress: told as files are read and batches finish.
        second_opinion: route with it, see ``Predictor.predict``.

    Raises:
        NotFoundError: there is no such task.
        InputError: an adapter elsewhere answers it.
        DataError: unusable rows, or a label that the expert does not know.
    """
    named = experts.named(task)
    kind = KINDS.get(named.kind)
    if kind.elsewhere:
        raise InputError(
            f"{named.id} is answered elsewhere, by the adapter {named.labels[0]!r}: its answers "
            "can be measured there only. How many of its rows the router sends to it says: "
            "expertbank forgetting-report"
        )
    # Separator and encoding are a file's own: those of the file trained on say nothing here.
    spec = replace(with_columns(experts.data_spec(named), columns), read_as=read_as or ReadAs())
    remarks: list[str] = []
    rows = read_rows(spec, source, remarks=remarks, progress=progress, to_measure=True)
    if not rows:
        raise DataError(f"{source}: no labelled row to measure {task} on")
    for row in rows:
        for label in kind.counted(row) if kind.names_labels else ():
            if label not in named.labels:
                raise DataError(
                    f"{row.origin}: label {label!r} is not one of {named.id}: "
                    + ", ".join(named.labels)
                )
    predictor = opened()
    if predictor.answerer(task).digest != named.digest:
        raise StaleError(f"task {task} got another expert meanwhile; run the command again")
    member = predictor.member(task)
    labels = [kind.truth(row) for row in rows]
    given = list(predictor.predict_with(named, rows, progress=progress))
    outcome = kind.outcome_of(labels, given)
    quality = outcome.quality()
    routed: list[Answer | None] = []
    unread: list[InputError] = []
    if predictor.has_router:
        routed = [None] * len(rows)
        for one in predictor.predict(
            rows, second_opinion=second_opinion, progress=progress, on_bad=unread.append
        ):
            routed[one.index] = _answer_of(one, task)
    chosen, own = given, None if member is None else quality
    if member is not None and member.digest != named.digest:
        chosen = list(predictor.predict_with(member, rows, progress=progress))
        own = kind.outcome_of(labels, chosen).quality()
    # Rows that went elsewhere count as in a report, which knows the expert's answers to them too.
    reached = np.array([answer is not None for answer in routed], dtype=bool)
    there = [one or other for one, other in zip(routed, chosen, strict=False)]
    return Evaluated(
        task,
        named.id,
        outcome.metric,
        len(rows),
        quality,
        kind.outcome_of(labels, there).quality(reached) if routed else None,
        float(reached.mean()) if routed else None,
        kind.per_label(labels, given),
        None if member is None else member.id,
        own,
        _not_known(task, len(unread), len(rows))
        if routed and member is None
        else predictor.older_member(task),
        tuple(remarks),
    )


def with_columns(spec: TaskSpec, columns: Columns | None) -> TaskSpec:
    """The stored task, with the columns of the new rows where they are named differently.

    Its kind stays: an expert has one.

    Raises:
        InputError: columns that rows of this kind do not have.
    """
    return spec if columns is None else replace(spec.with_columns(columns), kind=spec.kind)


def _not_known(task: str, unread: int, rows: int) -> str:
    beside = f"; no expert that it chooses can read {unread:,} of {rows:,} rows" if unread else ""
    return (
        f"note: the router does not know {task}, so none of the {rows:,} rows was routed to it"
        f"{beside}; run: expertbank retrain-router"
    )


def _answer_of(one: Prediction, task: str) -> Answer | None:
    """The answer that ``task``'s expert gave, alone or in its group; ``None`` if it gave none."""
    return next((answer for answer in (one, *one.answers) if answer.task == task), None)
