"""``predict``: one path for bank and bundle, so that both give the same answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from expertbank.errors import InputError, NotFoundError
from expertbank.models.batches import EVALUATION_BATCH
from expertbank.models.gates import Member, Router
from expertbank.models.routed import RoutedModel
from expertbank.records import EncodedRow, ProgressCallback, Row, no_progress
from expertbank.tasks import encode_rows
from expertbank.workflows.measure import run

CHUNK = 1024
"""Rows encoded and answered at a time: memory does not grow with the input."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer.

    Attributes:
        index: position of the row in the input, from 0.
        task: task whose expert answered.
        expert: that expert, ``task@version``.
        confidence: the router's probability of it; 1 when the caller named the task.
        label: the answer.
        scores: probability of every label of the task.
        unknown: whether the row is like no task of the bank; ``None``: not assessed.
        unknown_score: the score behind it; ``None``: not assessed.
    """

    index: int
    task: str
    expert: str
    confidence: float
    label: str
    scores: Mapping[str, float]
    unknown: bool | None = None
    unknown_score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The machine contract's form."""
        return {
            "index": self.index,
            "task": self.task,
            "expert": self.expert,
            "confidence": self.confidence,
            "unknown": self.unknown,
            "unknown_score": self.unknown_score,
            "label": self.label,
            "scores": dict(self.scores),
        }


class Predictor:
    """Routes and answers rows.

    Args:
        model: the one-pass model.
        labels: label names by expert id, for every expert that may answer.
        router: the router; ``None`` allows only rows whose task is named.
        experts: task name to the expert that answers when the task is named.
    """

    def __init__(
        self,
        model: RoutedModel,
        labels: Mapping[str, tuple[str, ...]],
        router: Router | None,
        experts: Mapping[str, str],
    ) -> None:
        self.model = model
        self._labels = labels
        self._router = router
        self._experts = experts

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that can be named."""
        return tuple(sorted(self._experts))

    def predict(
        self,
        rows: Iterable[Row],
        *,
        task: str | None = None,
        batch_size: int = EVALUATION_BATCH,
        progress: ProgressCallback = no_progress,
    ) -> Iterator[Prediction]:
        """Answer rows in their order, a bounded number at a time.

        Args:
            rows: what to answer; labels are ignored.
            task: name the task and leave the router out.
            batch_size: rows a forward pass.
            progress: told as batches finish.

        Raises:
            NotFoundError: no such task, or no router and no task named.
            InputError: a row brings choices, which no expert here can read.
        """
        decide = self._decide(task)
        start = 0
        remaining = iter(rows)
        while chunk := list(islice(remaining, CHUNK)):
            yield from self._answer(chunk, start, decide, batch_size, progress)
            start += len(chunk)

    def _decide(self, task: str | None) -> _Decision:
        if task is not None:
            if task not in self._experts:
                raise NotFoundError.of("task", task, self.tasks)
            return _Named(self._experts[task])
        if self._router is None:
            raise NotFoundError(
                "there is no router yet; run: expertbank retrain-router, "
                "or name the task with --task"
            )
        return _Routed(self._router)

    def _answer(
        self,
        rows: Sequence[Row],
        start: int,
        decision: _Decision,
        batch_size: int,
        progress: ProgressCallback,
    ) -> Iterator[Prediction]:
        for row in rows:
            if row.choices:
                raise InputError(
                    f"{row.origin or 'row'}: this release has no multiple-choice experts; "
                    "give rows with text and, if the task has pairs, text_pair"
                )
        spec = self.model.spec
        plain = [Row(row.text, row.text_pair) for row in rows]
        encoded: list[EncodedRow] = encode_rows(
            plain, self.model.backbone.tokenizer, "classification", (), spec.max_length
        )
        answers: dict[int, Prediction] = {}
        confidences: dict[int, float] = {}

        def decide(features: Tensor, positions: Sequence[int]) -> list[str]:
            experts, confidence = decision.choose(features)
            confidences.update(zip(positions, confidence, strict=True))
            return experts

        for output in run(self.model, encoded, decide, "predicting", progress, batch_size):
            for place, position in enumerate(output.rows):
                expert = output.experts[place]
                labels = self._labels[expert]
                logits = output.logits[place, : len(labels)]
                probabilities = torch.softmax(logits, 0).tolist()
                answers[position] = Prediction(
                    start + position,
                    expert.partition("@")[0],
                    expert,
                    confidences[position],
                    labels[int(logits.argmax())],
                    dict(zip(labels, probabilities, strict=True)),
                )
        for position in range(len(rows)):
            yield answers[position]


@dataclass(frozen=True, slots=True)
class _Named:
    """The caller named the expert: nothing is left to decide."""

    expert: str

    def choose(self, features: Tensor) -> tuple[list[str], list[float]]:
        return [self.expert] * len(features), [1.0] * len(features)


@dataclass(frozen=True, slots=True)
class _Routed:
    """The router decides."""

    router: Router

    def choose(self, features: Tensor) -> tuple[list[str], list[float]]:
        choice = self.router.route(features.cpu(), [False] * len(features))
        members: tuple[Member, ...] = self.router.members
        return [members[i].id for i in choice.index.tolist()], choice.confidence.tolist()


_Decision = _Named | _Routed
