"""Who answers a row: the expert that the caller named, or those that the router chooses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from expertbank.errors import InputError
from expertbank.kinds import KINDS
from expertbank.records import Row, RowShape
from expertbank.routing.columns import Member
from expertbank.routing.router import Router


@dataclass(frozen=True, slots=True)
class Answerer:
    """An expert that may answer: what its outputs mean.

    Attributes:
        id: ``task@version``.
        digest: of its file; what it is loaded and remembered by.
        task: the task's name.
        kind: name of the task's kind.
        labels: names in head order; empty where labels have none.
    """

    id: str
    digest: str
    task: str
    kind: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was decided for one row.

    Attributes:
        experts: who answers; several for a group.
        confidence: the router's probability of them; 1 when the caller named one.
        unknown: whether the row is like no task; ``None``: not assessed.
        unknown_score: the score behind it.
        abstained: whether the answer is to be ``unknown``.
    """

    experts: tuple[Member | Answerer, ...]
    confidence: float
    unknown: bool | None = None
    unknown_score: float | None = None
    abstained: bool = False


def _read_choices(shapes: Iterable[RowShape]) -> frozenset[bool]:
    """Whether rows with choices are among those of these shapes, and whether others are."""
    return frozenset(shape == "choices" for shape in shapes)


@dataclass(frozen=True, slots=True)
class Named:
    """The caller named the expert: nothing is left to decide."""

    expert: Answerer

    @property
    def reads_choices(self) -> frozenset[bool]:
        """Whether the expert reads rows with choices, or rows without."""
        return _read_choices(KINDS.get(self.expert.kind).shapes)

    def choose(self, features: Tensor, shapes: Sequence[RowShape]) -> list[Chosen]:
        """The expert, for each of the rows."""
        return [Chosen((self.expert,), 1.0)] * len(features)


@dataclass(frozen=True, slots=True)
class Routed:
    """The router decides: one expert, or the experts of a group; what of unknown rows, the caller.

    Attributes:
        router: the router.
        experts: by column of the gate, who answers together.
        reads_choices: whether any of them reads rows with choices, or rows without.
        abstain: answer ``unknown`` to unknown rows.
        fallback: the expert that answers unknown rows of its own kind instead.
    """

    router: Router
    experts: tuple[tuple[Member, ...], ...]
    reads_choices: frozenset[bool]
    abstain: bool = False
    fallback: Answerer | None = None

    @classmethod
    def over(cls, router: Router) -> Routed:
        """What every row asks of a router, worked out once."""
        return cls(
            router,
            router.columns,
            _read_choices(shape for member in router.members for shape in member.reads),
        )

    def choose(self, features: Tensor, shapes: Sequence[RowShape]) -> list[Chosen]:
        """Who answers rows of these shapes with pooled trunk states ``features [rows, width]``."""
        choice = self.router.route(features.cpu(), shapes)
        nothing: list[None] = [None] * len(features)
        scores = nothing if choice.unknown_score is None else choice.unknown_score.tolist()
        unknown = nothing if choice.unknown is None else choice.unknown.tolist()
        found = [
            Chosen(
                self.experts[index],
                confidence,
                is_unknown,
                score,
                self.abstain and bool(is_unknown),
            )
            for index, confidence, is_unknown, score in zip(
                choice.index.tolist(), choice.confidence.tolist(), unknown, scores, strict=True
            )
        ]
        if self.fallback is None:
            return found
        spared = self._probability_of(self.fallback.task, features.cpu(), shapes)
        return [
            replace(one, experts=(self.fallback,), confidence=probability)
            if one.unknown and shape in KINDS.get(self.fallback.kind).shapes
            else one
            for one, shape, probability in zip(found, shapes, spared, strict=True)
        ]

    def _probability_of(
        self, task: str, features: Tensor, shapes: Sequence[RowShape]
    ) -> list[float]:
        """The router's probability of a task for each row; 0 where it is no candidate."""
        if all(member.task != task for member in self.router.members):
            return [0.0] * len(features)
        column = self.router.column_of(task)
        return [float(row[column]) for row in self.router.probabilities(features, shapes)]


Decision = Named | Routed


def unanswerable(row: Row, decision: Decision) -> InputError | None:
    """What is wrong with a row that no expert can read."""
    if bool(row.choices) in decision.reads_choices:
        return None
    where = row.origin or "row"
    return InputError(
        f"{where}: it brings choices, and no multiple-choice expert may answer"
        if row.choices
        else f"{where}: it brings no choices, and only multiple-choice experts may answer"
    )
