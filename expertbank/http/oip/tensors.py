"""Answers as tensors: the outputs of every model, by name.

``n`` is the number of rows and ``k`` the most labels that any of them was weighed among. A row with
fewer has empty labels and probabilities of 0 behind its own; a value (regression) has none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from expertbank.http.told import document_of, label_text
from expertbank.serving.answered import Answered
from expertbank.workflows.answering.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Tensor:
    """One output: its elements in row-major order.

    Attributes:
        name: of the output.
        datatype: of the Open Inference Protocol.
        shape: how many elements in each dimension.
        values: the elements.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Output:
    """What one output holds.

    Attributes:
        name: of the output.
        datatype: of the Open Inference Protocol.
        about: one sentence for the metadata.
        of: gives a row's element, or its list of elements.
        wide: whether a row has ``k`` elements.
        filler: what stands behind a row's own elements.
    """

    name: str
    datatype: str
    about: str
    of: Callable[[Prediction, Answered], Any]
    wide: bool = False
    filler: Any = None

    def metadata(self) -> dict[str, Any]:
        """As the model's metadata names it."""
        return {
            "name": self.name,
            "datatype": self.datatype,
            "shape": [-1, -1] if self.wide else [-1],
            "parameters": {"description": self.about},
        }


def _value(answer: Prediction, _: Answered) -> float:
    return float(answer.label) if isinstance(answer.label, (int, float)) else 0.0


OUTPUTS = (
    Output(
        "label",
        "BYTES",
        "The answer; where several labels may hold, a JSON array of them.",
        lambda one, _: label_text(one),
    ),
    Output(
        "probabilities",
        "FP64",
        "Probability of each label, in the order of `labels`; 0 behind a row's own. Equal choices "
        "are one.",
        lambda one, _: list(one.scores.values()),
        wide=True,
        filler=0.0,
    ),
    Output(
        "labels",
        "BYTES",
        "What each probability is of; empty behind a row's own.",
        lambda one, _: list(one.scores),
        wide=True,
        filler="",
    ),
    Output("value", "FP64", "The answer of a regression; 0 for other kinds.", _value),
    Output(
        "choice",
        "INT64",
        "Position of the chosen choice among those sent; -1 where the row brings none.",
        lambda one, _: -1 if one.choice is None else one.choice,
    ),
    Output("task", "BYTES", "Task whose expert answered.", lambda one, _: one.task),
    Output("expert", "BYTES", "That expert, task@version.", lambda one, _: one.expert),
    Output(
        "expert_digest",
        "BYTES",
        "SHA-256 of that expert's file.",
        lambda one, _: one.expert_digest,
    ),
    Output(
        "router_digest",
        "BYTES",
        "SHA-256 of the router that was in use; empty without one.",
        lambda _, answered: answered.state.router_digest or "",
    ),
    Output(
        "confidence",
        "FP64",
        "The router's probability of the task; 1 where it was named.",
        lambda one, _: one.confidence,
    ),
    Output(
        "unknown",
        "BOOL",
        "Whether the row is like no task; false too where it was not assessed.",
        lambda one, _: bool(one.unknown),
    ),
    Output(
        "assessed",
        "BOOL",
        "Whether `unknown` and `unknown_score` were worked out.",
        lambda one, _: one.unknown is not None,
    ),
    Output(
        "unknown_score",
        "FP64",
        "Higher for rows less like any task; 0 where it was not assessed.",
        lambda one, _: one.unknown_score or 0.0,
    ),
    Output(
        "unknown_p_value",
        "FP64",
        "Share of known rows about as long that look as strange; 1 where nobody knows.",
        lambda one, _: 1.0 if one.unknown_p_value is None else one.unknown_p_value,
    ),
    Output(
        "abstained",
        "BOOL",
        "Whether no answer was given, for the row is unknown and that was asked for.",
        lambda one, _: one.abstained,
    ),
    Output(
        "answer",
        "BYTES",
        "The row's whole answer as a JSON document, as `expertbank predict --json` writes it.",
        lambda one, answered: json.dumps(document_of(one, answered.state), ensure_ascii=False),
    ),
)
BY_NAME = {output.name: output for output in OUTPUTS}


@dataclass(frozen=True)
class Tensors:
    """The outputs of one answered request, made as they are asked for."""

    answered: Answered

    @cached_property
    def _width(self) -> int:
        return max((len(one.scores) for one in self.answered.predictions), default=0)

    def tensor(self, output: Output) -> Tensor:
        """One output of all rows."""
        rows = [output.of(one, self.answered) for one in self.answered.predictions]
        if not output.wide:
            return Tensor(output.name, output.datatype, (len(rows),), rows)
        width = self._width
        values = [value for row in rows for value in (*row, *[output.filler] * (width - len(row)))]
        return Tensor(output.name, output.datatype, (len(rows), width), values)
