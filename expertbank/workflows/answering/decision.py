"""Who answers a row: the experts that the caller named, or those that the router chooses."""

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
class Near:
    """What came close for a row.

    Attributes:
        tasks: of one column: a task, or those of a group.
        probability: the router's, among what may answer the row.
    """

    tasks: tuple[str, ...]
    probability: float


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was decided for one row.

    Attributes:
        experts: who answers; several for a group.
        confidence: the router's probability of them; 1 when the caller named one.
        unknown: whether the row is like no task; ``None``: not assessed.
        unknown_score: the score behind it.
        unknown_p_value: how many known rows score as high.
        near: what came closest, the likeliest first; empty when the caller named one.
        abstained: whether the answer is to be ``unknown``.
    """

    experts: tuple[Member | Answerer, ...]
    confidence: float
    unknown: bool | None = None
    unknown_score: float | None = None
    unknown_p_value: float | None = None
    near: tuple[Near, ...] = ()
    abstained: bool = False


def _read_choices(shapes: Iterable[RowShape]) -> frozenset[bool]:
    """Whether rows with choices are among those of these shapes, and whether others are."""
    return frozenset(shape == "choices" for shape in shapes)


@dataclass(frozen=True, slots=True)
class Named:
    """The caller named who answers: nothing is left to decide.

    Attributes:
        experts: one, or those of a group, which answer together.
        reads_choices: whether all of them read rows with choices, or rows without.
    """

    experts: tuple[Answerer, ...]
    reads_choices: frozenset[bool]

    @classmethod
    def of(cls, *experts: Answerer) -> Named:
        """The decision for these experts.

        Raises:
            NotFoundError: the kind of one is not installed.
        """
        reads = [_read_choices(KINDS.get(expert.kind).shapes) for expert in experts]
        return cls(experts, frozenset.intersection(*reads))


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

    def probability_of_fallback(self, probabilities: Tensor) -> float:
        """The fallback's among a row's ``probabilities [columns]``; 0 where it is no candidate."""
        assert self.fallback is not None
        if all(member.task != self.fallback.task for member in self.router.members):
            return 0.0
        return float(probabilities[self.router.column_of(self.fallback.task)])


Decision = Named | Routed


def choose(
    decisions: Sequence[Decision],
    features: Tensor,
    shapes: Sequence[RowShape],
    tokens: Sequence[int],
) -> list[Chosen]:
    """Who answers each row; rows that ask the same router are routed together.

    Args:
        decisions: one a row.
        features: ``[rows, width]`` pooled trunk states.
        shapes: one a row.
        tokens: one a row, those of its longest sequence.
    """
    found: list[Chosen | None] = [None] * len(decisions)
    routed: dict[int, list[tuple[int, Routed]]] = {}
    for place, decision in enumerate(decisions):
        if isinstance(decision, Named):
            found[place] = Chosen(decision.experts, 1.0)
        else:
            routed.setdefault(id(decision.router), []).append((place, decision))
    for asking in routed.values():
        places = [place for place, _ in asking]
        own = features.cpu() if len(places) == len(decisions) else features.cpu()[places]
        answers = _route(
            [one for _, one in asking],
            own,
            [shapes[place] for place in places],
            [tokens[place] for place in places],
        )
        for place, chosen in zip(places, answers, strict=True):
            found[place] = chosen
    return [one for one in found if one is not None]


def _route(
    decisions: Sequence[Routed],
    features: Tensor,
    shapes: Sequence[RowShape],
    tokens: Sequence[int],
) -> list[Chosen]:
    """Who answers rows that all ask one router."""
    router = decisions[0].router
    choice = router.route(features, shapes, tokens)
    nothing: list[None] = [None] * len(features)
    scores = nothing if choice.unknown_score is None else choice.unknown_score.tolist()
    unknown = nothing if choice.unknown is None else choice.unknown.tolist()
    p_values = nothing if choice.p_value is None else choice.p_value.tolist()
    near = [
        tuple(
            Near(tuple(member.task for member in router.columns[column]), probability)
            for column, probability in zip(columns, probabilities, strict=True)
            if probability > 0
        )
        for columns, probabilities in zip(
            choice.near.tolist(), choice.near_probability.tolist(), strict=True
        )
    ]
    found = [
        Chosen(
            decision.experts[index],
            confidence,
            is_unknown,
            score,
            p_value,
            close,
            decision.abstain and bool(is_unknown),
        )
        for decision, index, confidence, is_unknown, score, p_value, close in zip(
            decisions,
            choice.index.tolist(),
            choice.confidence.tolist(),
            unknown,
            scores,
            p_values,
            near,
            strict=True,
        )
    ]
    spared = [
        place
        for place, (decision, chosen, shape) in enumerate(
            zip(decisions, found, shapes, strict=True)
        )
        if decision.fallback is not None
        and chosen.unknown
        and shape in KINDS.get(decision.fallback.kind).shapes
    ]
    if spared:
        probabilities = router.probabilities(features[spared], [shapes[p] for p in spared])
        for place, own in zip(spared, probabilities, strict=True):
            decision = decisions[place]
            assert decision.fallback is not None
            found[place] = replace(
                found[place],
                experts=(decision.fallback,),
                confidence=decision.probability_of_fallback(own),
            )
    return found


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
