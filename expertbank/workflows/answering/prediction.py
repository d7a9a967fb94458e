"""One row that can be answered, and one expert's answer to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch

from expertbank.kinds.answer import Answer
from expertbank.records import EncodedRow, Row
from expertbank.routing.known import bin_name, bin_of
from expertbank.workflows.answering.choosing import Chosen, Near
from expertbank.workflows.answering.decision import Decision
from expertbank.writing import GREEDY, Sampling

UNKNOWN = "unknown"
"""The label of a row that is like no task, for callers who asked for it. A class may be called so
too: ``Prediction.abstained`` tells the two apart."""
ABSTAINED = f"({UNKNOWN})"
"""The same as a person reads it; a label that looks like this is quoted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Answer):
    """One expert's answer to one row, and who gave it.

    Where no answer was given, its ``label`` is ``unknown``; where an adapter elsewhere gives it,
    ``None``.

    Attributes:
        index: position of the row in the input, from 0.
        task: task whose expert answered.
        expert: that expert, ``task@version``.
        confidence: the router's probability of the task of the expert that answered, among those
            that may answer the row; 0 for a fallback that is none of them, 1 when the caller named
            the task.
        unknown: whether the row is like no task that may answer it; ``None``: not assessed, for
            the task was named or the router holds no statistics.
        unknown_score: the score behind it, higher for rows less like any; ``None`` likewise.
        unknown_p_value: the share of known rows, sent to the same place and about as long, that
            score as high; up to 0.05 a row is called unknown. ``None`` likewise, and of routers
            that were fitted before there was one.
        near: the tasks that came closest, the likeliest first; empty when the task was named.
        second: the expert that was asked too, for the two best lay close; empty for none.
        tokens: those of the row's longest sequence, as the backbone read it.
        truncated: whether the row has more, which were not read: an expert that writes reads the
            last tokens of a text that is too long, any other expert and the router the first.
        answers: for a group, the answers of all its experts, this one among them.
        abstained: whether no answer was given, for the row is unknown and the caller asked to
            abstain then.
        expert_digest: of the expert's file.
        finish: ``stop`` where what was written came to its end, ``length`` where its tokens did.
        written_tokens: how many tokens that took.
        external_adapter: what the adapter that answers elsewhere is called there; ``None`` where
            the expert answers itself.
    """

    index: int
    task: str
    expert: str
    confidence: float
    unknown: bool | None = None
    unknown_score: float | None = None
    unknown_p_value: float | None = None
    near: tuple[Near, ...] = ()
    second: str = ""
    tokens: int = 0
    truncated: bool = False
    answers: tuple[Prediction, ...] = ()
    abstained: bool = False
    expert_digest: str = ""
    finish: str = ""
    written_tokens: int = 0
    external_adapter: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The machine contract's form."""
        document: dict[str, Any] = {
            "index": self.index,
            "task": self.task,
            "expert": self.expert,
            "confidence": self.confidence,
            "unknown": self.unknown,
            "unknown_score": self.unknown_score,
            "unknown_p_value": self.unknown_p_value,
            "abstained": self.abstained,
            "truncated": self.truncated,
            "label": self.label,
            "scores": dict(self.scores),
        }
        if self.written is not None:
            document["text"] = self.written
            document["finish"] = self.finish
        if self.external_adapter is not None:
            document["external_adapter"] = self.external_adapter
        if self.choice is not None:
            document["choice"] = self.choice
        if self.labels is not None:
            document["labels"] = list(self.labels)
        if self.thresholds is not None:
            document["thresholds"] = dict(self.thresholds)
        if self.second:
            document["second"] = self.second
        if self.answers:
            document["answers"] = [answer.to_dict() for answer in self.answers]
        return document

    def explanation(self) -> dict[str, Any]:
        """Why it went there, as ``predict --explain --json`` tells it."""
        return {
            "near": [{"tasks": list(o.tasks), "probability": o.probability} for o in self.near],
            "tokens": self.tokens,
            "length_bin": self.length_bin,
            "unknown_p_value": self.unknown_p_value,
        }

    @property
    def length_bin(self) -> str:
        """The lengths of the known rows that it is compared with, as people read them."""
        return bin_name(int(bin_of(torch.tensor([self.tokens]))))


@dataclass(frozen=True, slots=True)
class Question:
    """One row that can be answered, and who decides by whom.

    Attributes:
        row: the row.
        encoded: its tokens.
        decision: who answers it; made by the predictor that is asked.
        index: of its ``Prediction``.
        sampling: what is wanted of an answer that is written.
        told: takes such an answer so far, after each of its tokens; false ends it.
        wanted: asked after each of its tokens whether it is wanted still; false ends it.
        only_routed: only who would answer is asked, and no expert is.
    """

    row: Row
    encoded: EncodedRow
    decision: Decision
    index: int = 0
    sampling: Sampling = GREEDY
    told: Callable[[str], bool] | None = None
    wanted: Callable[[], bool] | None = None
    only_routed: bool = False


def predicted(
    question: Question, chosen: Chosen, slot: int, answer: Answer, elsewhere: str | None = None
) -> Prediction:
    """An answer, with who gives it and why; of a group the expert in this ``slot``."""
    expert = chosen.experts[slot]
    return Prediction(
        **{one.name: getattr(answer, one.name) for one in fields(Answer)},
        index=question.index,
        task=expert.task,
        expert=expert.id,
        confidence=chosen.confidence,
        abstained=chosen.abstained,
        unknown=chosen.unknown,
        unknown_score=chosen.unknown_score,
        unknown_p_value=chosen.unknown_p_value,
        near=chosen.near,
        second=chosen.asked_too,
        tokens=question.encoded.length,
        truncated=question.encoded.truncated,
        expert_digest=expert.digest,
        external_adapter=elsewhere,
    )
