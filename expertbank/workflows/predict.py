"""``predict``: one path for bank and bundle, so that both give the same answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from expertbank.errors import InputError, NotFoundError
from expertbank.models.batches import EVALUATION_BATCH
from expertbank.models.gates import Member, Router
from expertbank.models.routed import RoutedModel
from expertbank.records import (
    EncodedRow,
    ProgressCallback,
    Row,
    RowShape,
    TaskKind,
    no_progress,
)
from expertbank.tasks import encode_rows
from expertbank.workflows.measure import run

CHUNK = 1024
"""Rows encoded and answered at a time: memory does not grow with the input."""


@dataclass(frozen=True, slots=True)
class Answerer:
    """An expert that may answer: what its outputs mean.

    Attributes:
        id: ``task@version``.
        task: the task's name.
        kind: the task's kind.
        labels: class names in head order; empty for regression.
    """

    id: str
    task: str
    kind: TaskKind
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One expert's answer to one row.

    Attributes:
        index: position of the row in the input, from 0.
        task: task whose expert answered.
        expert: that expert, ``task@version``.
        confidence: the router's probability of it; 1 when the caller named the task.
        label: the answer: a class name, the text of the chosen choice, or a value.
        scores: probability of every label or choice; empty for a value.
        choice: position of the chosen choice, for multiple choice.
        unknown: whether the row is like no task of the bank; ``None``: not assessed.
        unknown_score: the score behind it; ``None``: not assessed.
        answers: for a group, the answers of all its experts, this one among them.
    """

    index: int
    task: str
    expert: str
    confidence: float
    label: str | float
    scores: Mapping[str, float]
    choice: int | None = None
    unknown: bool | None = None
    unknown_score: float | None = None
    answers: tuple[Prediction, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The machine contract's form."""
        document: dict[str, Any] = {
            "index": self.index,
            "task": self.task,
            "expert": self.expert,
            "confidence": self.confidence,
            "unknown": self.unknown,
            "unknown_score": self.unknown_score,
            "label": self.label,
            "scores": dict(self.scores),
        }
        if self.choice is not None:
            document["choice"] = self.choice
        if self.answers:
            document["answers"] = [answer.to_dict() for answer in self.answers]
        return document


class Predictor:
    """Routes and answers rows.

    Args:
        model: the one-pass model.
        experts: every expert that may answer.
        router: the router; ``None`` allows only rows whose task is named.
        named: task name to the id of the expert that answers when the task is named.
        removed: tasks that were removed, for a message that says so.
    """

    def __init__(
        self,
        model: RoutedModel,
        experts: Iterable[Answerer],
        router: Router | None,
        named: Mapping[str, str],
        removed: Collection[str] = (),
    ) -> None:
        self.model = model
        self._experts = {expert.id: expert for expert in experts}
        self._router = router
        self._named = named
        self._removed = frozenset(removed)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that can be named."""
        return tuple(sorted(self._named))

    @property
    def has_router(self) -> bool:
        """Whether rows can be answered without naming a task."""
        return self._router is not None

    def answerer(self, task: str) -> Answerer:
        """The expert that answers when ``task`` is named.

        Raises:
            NotFoundError: no such task.
        """
        if task in self._removed:
            raise NotFoundError(
                f"task {task!r} was removed; expertbank add --task {task} --new-version makes it "
                "alive again"
            )
        if task not in self._named:
            raise NotFoundError.of("task", task, self.tasks)
        return self._experts[self._named[task]]

    def predict(
        self,
        rows: Iterable[Row],
        *,
        task: str | None = None,
        batch_size: int = EVALUATION_BATCH,
        progress: ProgressCallback = no_progress,
    ) -> Iterator[Prediction]:
        """Answer rows in their order, a bounded number at a time.

        A row with choices goes to multiple-choice experts only, any other row to the rest; a
        pair of texts to experts trained on pairs, one text to those trained on one.

        Args:
            rows: what to answer; labels are ignored.
            task: name the task and leave the router out.
            batch_size: rows a forward pass.
            progress: told as batches finish.

        Raises:
            NotFoundError: no such task, or no router and no task named.
            InputError: no expert here can read a row: choices without a multiple-choice
                expert, or the other way round.
        """
        decision = self._decision(task)
        start = 0
        remaining = iter(rows)
        while chunk := list(islice(remaining, CHUNK)):
            for row in chunk:
                self._check(row, decision)
            yield from self._answer(chunk, start, decision, batch_size, progress)
            start += len(chunk)

    def _decision(self, task: str | None) -> _Decision:
        if task is not None:
            return _Named(self.answerer(task).id)
        if self._router is None:
            raise NotFoundError(
                "there is no router yet; run: expertbank retrain-router, "
                "or name the task with --task"
            )
        return _Routed(self._router)

    def _check(self, row: Row, decision: _Decision) -> None:
        kinds = {self._experts[expert].kind for expert in decision.experts}
        has_choices = bool(row.choices)
        if not any((kind == "multiple_choice") == has_choices for kind in kinds):
            where = row.origin or "row"
            raise InputError(
                f"{where}: it brings choices, and no multiple-choice expert may answer"
                if has_choices
                else f"{where}: it brings no choices, and only multiple-choice experts may answer"
            )

    def _answer(
        self,
        rows: Sequence[Row],
        start: int,
        decision: _Decision,
        batch_size: int,
        progress: ProgressCallback,
    ) -> Iterator[Prediction]:
        encoded = self._encode(rows)
        chosen: dict[int, tuple[tuple[str, ...], float]] = {}

        def first(features: Tensor, positions: Sequence[int]) -> list[str]:
            found = decision.choose(features, [rows[p].shape for p in positions])
            chosen.update(zip(positions, found, strict=True))
            return [experts[0] for experts, _ in found]

        answers: dict[int, list[Prediction]] = {place: [] for place in range(len(rows))}
        for output in run(self.model, encoded, first, "predicting", progress, batch_size):
            for place, position in enumerate(output.rows):
                answers[position].append(
                    self._prediction(
                        rows[position],
                        start + position,
                        output.experts[place],
                        chosen[position][1],
                        output.logits[place],
                    )
                )
        # The other experts of a group answer in further passes, over the group's rows only.
        for slot in range(1, max(len(experts) for experts, _ in chosen.values())):
            places = [place for place in sorted(chosen) if len(chosen[place][0]) > slot]
            for position, answer in self._again(
                rows, start, places, chosen, slot, batch_size, encoded
            ):
                answers[position].append(answer)
        for position in range(len(rows)):
            first_answer, *others = answers[position]
            if others:
                first_answer = replace(first_answer, answers=(first_answer, *others))
            yield first_answer

    def _again(
        self,
        rows: Sequence[Row],
        start: int,
        places: Sequence[int],
        chosen: Mapping[int, tuple[tuple[str, ...], float]],
        slot: int,
        batch_size: int,
        encoded: Sequence[EncodedRow],
    ) -> Iterator[tuple[int, Prediction]]:
        def named(features: Tensor, positions: Sequence[int]) -> list[str]:
            return [chosen[places[position]][0][slot] for position in positions]

        subset = [encoded[place] for place in places]
        for output in run(self.model, subset, named, "predicting", batch_size=batch_size):
            for index, position in enumerate(output.rows):
                place = places[position]
                yield (
                    place,
                    self._prediction(
                        rows[place],
                        start + place,
                        output.experts[index],
                        chosen[place][1],
                        output.logits[index],
                    ),
                )

    def _encode(self, rows: Sequence[Row]) -> list[EncodedRow]:
        tokenizer, length = self.model.backbone.tokenizer, self.model.spec.max_length
        encoded: dict[int, EncodedRow] = {}
        kinds: tuple[TaskKind, TaskKind] = ("classification", "multiple_choice")
        for kind in kinds:
            places = [
                place
                for place, row in enumerate(rows)
                if bool(row.choices) == (kind == "multiple_choice")
            ]
            plain = [replace(rows[place], label=None) for place in places]
            found = encode_rows(plain, tokenizer, kind, (), length)
            encoded.update(zip(places, found, strict=True))
        return [encoded[place] for place in range(len(rows))]

    def _prediction(
        self, row: Row, index: int, expert_id: str, confidence: float, logits: Tensor
    ) -> Prediction:
        expert = self._experts[expert_id]
        if expert.kind == "regression":
            value = float(logits[0])
            return Prediction(index, expert.task, expert_id, confidence, value, {})
        names = row.choices if expert.kind == "multiple_choice" else expert.labels
        own = logits[: len(names)]
        best = int(own.argmax())
        scores: dict[str, float] = {}
        for name, probability in zip(names, torch.softmax(own, 0).tolist(), strict=True):
            scores[name] = scores.get(name, 0.0) + probability  # equal choices are one answer
        choice = best if expert.kind == "multiple_choice" else None
        return Prediction(index, expert.task, expert_id, confidence, names[best], scores, choice)


@dataclass(frozen=True, slots=True)
class _Named:
    """The caller named the expert: nothing is left to decide."""

    expert: str

    @property
    def experts(self) -> tuple[str, ...]:
        return (self.expert,)

    def choose(
        self, features: Tensor, shapes: Sequence[RowShape]
    ) -> list[tuple[tuple[str, ...], float]]:
        return [((self.expert,), 1.0)] * len(features)


@dataclass(frozen=True, slots=True)
class _Routed:
    """The router decides: one expert, or the experts of a group."""

    router: Router

    @property
    def experts(self) -> tuple[str, ...]:
        return tuple(member.id for member in self.router.members)

    def choose(
        self, features: Tensor, shapes: Sequence[RowShape]
    ) -> list[tuple[tuple[str, ...], float]]:
        choice = self.router.route(features.cpu(), shapes)
        columns: tuple[tuple[Member, ...], ...] = self.router.columns
        return [
            (tuple(member.id for member in columns[index]), confidence)
            for index, confidence in zip(
                choice.index.tolist(), choice.confidence.tolist(), strict=True
            )
        ]


_Decision = _Named | _Routed
