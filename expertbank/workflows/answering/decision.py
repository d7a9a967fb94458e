"""Who answers a row: the experts that the caller named, or those that the router chooses.

Two steps: ``choose`` before an expert has answered, ``settle`` after, for only then is it known
whether the row is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from expertbank.artifacts.bundle import BundledExpert
from expertbank.errors import InputError
from expertbank.kinds import KINDS
from expertbank.records import ExpertRecord, Row, RowShape
from expertbank.routing.columns import Member
from expertbank.routing.router import Router
from expertbank.routing.unknown import UnknownModel


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

    @classmethod
    def of(cls, expert: ExpertRecord | BundledExpert) -> Answerer:
        """An expert of a bank's registry, or of a bundle's manifest."""
        return cls(expert.id, expert.digest, expert.task, expert.kind, expert.labels)


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
class Second:
    """The second best of a router for one row.

    Attributes:
        expert: of the column.
        column: of the router.
        probability: the router's.
    """

    expert: Member
    column: int
    probability: float


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was decided for one row.

    Attributes:
        experts: who answers; several for a group.
        confidence: the router's probability of them; 1 when the caller named one.
        column: of the router; ``None`` when the caller named one.
        second: who is to be asked too, for the two best lie close; ``None`` for nobody.
        strangeness: of the router; ``None`` likewise, or where it holds no statistics.
        unknown: whether the row is like no task; ``None``: not assessed.
        unknown_score: the score behind it.
        unknown_p_value: how many known rows score as high.
        near: what came closest, the likeliest first; empty when the caller named one.
        abstained: whether the answer is to be ``unknown``.
        spared: whether the fallback is to answer.
        asked_too: the expert that was asked too and did not answer best; empty for none.
    """

    experts: tuple[Member | Answerer, ...]
    confidence: float
    column: int | None = None
    second: Second | None = None
    strangeness: float | None = None
    unknown: bool | None = None
    unknown_score: float | None = None
    unknown_p_value: float | None = None
    near: tuple[Near, ...] = ()
    abstained: bool = False
    spared: bool = False
    asked_too: str = ""


def _read_choices(shapes: Iterable[RowShape]) -> frozenset[bool]:
    """Whether rows with choices are among those of these shapes, and whether others are."""
    return frozenset(shape == "choices" for shape in shapes)


def _any_writes(kinds: Iterable[str]) -> bool:
    """Whether answers of experts of these kinds may have to be written."""
    writing = {name for name, kind in KINDS.usable() if kind.writes}
    return not writing.isdisjoint(kinds)


@dataclass(frozen=True, slots=True)
class Named:
    """The caller named who answers: nothing is left to decide.

    Attributes:
        experts: one, or those of a group, which answer together.
        reads_choices: whether all of them read rows with choices, or rows without.
        writes: whether any of them writes its answers.
    """

    experts: tuple[Answerer, ...]
    reads_choices: frozenset[bool]
    writes: bool = False

    @classmethod
    def of(cls, *experts: Answerer) -> Named:
        """The decision for these experts.

        Raises:
            NotFoundError: the kind of one is not installed.
        """
        reads = [_read_choices(KINDS.get(expert.kind).shapes) for expert in experts]
        writes = _any_writes(expert.kind for expert in experts)
        return cls(experts, frozenset.intersection(*reads), writes)


@dataclass(frozen=True, slots=True)
class Routed:
    """The router decides: one expert, or the experts of a group; what of unknown rows, the caller.

    Attributes:
        router: the router.
        experts: by column of the gate, who answers together.
        reads_choices: whether any of them reads rows with choices, or rows without.
        abstain: answer ``unknown`` to unknown rows.
        fallback: the expert that answers unknown rows of its own kind instead.
        second_opinion: where the two best lie close, ask both experts.
        writes: whether any of these experts writes its answers.
    """

    router: Router
    experts: tuple[tuple[Member, ...], ...]
    reads_choices: frozenset[bool]
    abstain: bool = False
    fallback: Answerer | None = None
    second_opinion: bool = False
    writes: bool = False

    @classmethod
    def over(cls, router: Router) -> Routed:
        """What every row asks of a router, worked out once."""
        return cls(
            router,
            router.columns,
            _read_choices(shape for member in router.members for shape in member.reads),
            writes=_any_writes(member.kind for member in router.members),
        )

    def can_spare(self, shape: RowShape) -> bool:
        """Whether there is a fallback that reads rows of this shape."""
        return self.fallback is not None and shape in KINDS.get(self.fallback.kind).shapes

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
) -> list[Chosen]:
    """Who answers each row first; rows that ask the same router are routed together.

    Args:
        decisions: one a row.
        features: ``[rows, width]`` pooled trunk states.
        shapes: one a row.
    """
    found: list[Chosen | None] = [
        Chosen(decision.experts, 1.0) if isinstance(decision, Named) else None
        for decision in decisions
    ]
    for places, asking in _by_router(decisions):
        own = features if len(places) == len(decisions) else features[places]
        answers = _route(asking, own, [shapes[place] for place in places])
        for place, chosen in zip(places, answers, strict=True):
            found[place] = chosen
    return [one for one in found if one is not None]


def decided(
    decisions: Sequence[Decision],
    chosen: Sequence[Chosen],
    first: Tensor,
    second: Tensor,
) -> list[Chosen]:
    """Rows of which both experts were asked, sent to the one whose they are more likely.

    Args:
        decisions: one a row, all routed.
        chosen: what ``choose`` made of them, with a ``second``.
        first: ``[rows]`` int16 sureness of the expert that was chosen.
        second: ``[rows]`` int16 of the other.
    """
    found = []
    for place, (decision, one) in enumerate(zip(decisions, chosen, strict=True)):
        assert isinstance(decision, Routed)
        assert one.second is not None
        model = decision.router.unknown
        assert isinstance(model, UnknownModel)
        columns = torch.tensor([one.column, one.second.column])
        said = model.evidence(columns, torch.stack([first[place], second[place]]))
        odds = torch.tensor([one.confidence, one.second.probability], dtype=torch.float64)
        both = float(odds.sum())
        mine, other = (torch.softmax(odds.log() + said, 0) * both).tolist()
        first_id, own = one.experts[0].id, one.second
        if other > mine:
            one = replace(one, experts=(own.expert,), column=own.column, confidence=other)
            found.append(replace(one, asked_too=first_id))
        else:
            found.append(replace(one, confidence=mine, asked_too=own.expert.id))
    return found


def settle(
    decisions: Sequence[Decision],
    chosen: Sequence[Chosen],
    features: Tensor,
    shapes: Sequence[RowShape],
    tokens: Sequence[int],
    sureness: Tensor,
) -> list[Chosen]:
    """What is known of each row when the first expert has answered.

    Args:
        decisions: one a row.
        chosen: what ``choose`` made of them.
        features: as there.
        shapes: as there.
        tokens: one a row, those of its longest sequence.
        sureness: ``[rows]`` int16 of the experts that answered.
    """
    found = list(chosen)
    for places, asking in _by_router(decisions):
        judged = asking[0].router.judge(
            _strangeness([chosen[place] for place in places]),
            torch.tensor([chosen[place].column for place in places]),
            [tokens[place] for place in places],
            sureness[places],
        )
        if judged is None:
            continue
        nothing: list[None] = [None] * len(places)
        p_values = nothing if judged.p_value is None else judged.p_value.tolist()
        unknown, scores = judged.unknown.tolist(), judged.score.tolist()
        for place, one, is_unknown, score, p_value in zip(
            places, asking, unknown, scores, p_values, strict=True
        ):
            found[place] = replace(
                chosen[place],
                unknown=is_unknown,
                unknown_score=score,
                unknown_p_value=p_value,
                abstained=one.abstain and is_unknown,
                spared=is_unknown and one.can_spare(shapes[place]),
            )
        spared = [(place, one) for place, one in zip(places, asking, strict=True)
                  if found[place].spared]  # fmt: skip
        if spared:
            rows = [place for place, _ in spared]
            own = features[rows]
            odds = asking[0].router.probabilities(own, [shapes[place] for place in rows])
            for (place, one), probabilities in zip(spared, odds, strict=True):
                confidence = one.probability_of_fallback(probabilities)
                found[place] = replace(found[place], confidence=confidence)
    return found


def _by_router(decisions: Sequence[Decision]) -> list[tuple[list[int], list[Routed]]]:
    """Places and decisions of the rows that ask a router, one router after the other."""
    routed: dict[int, tuple[list[int], list[Routed]]] = {}
    for place, decision in enumerate(decisions):
        if isinstance(decision, Routed):
            places, asking = routed.setdefault(id(decision.router), ([], []))
            places.append(place)
            asking.append(decision)
    return list(routed.values())


def _strangeness(chosen: Sequence[Chosen]) -> Tensor | None:
    """``[rows]`` float64; ``None`` where the router holds no statistics."""
    own = [one.strangeness for one in chosen]
    return None if None in own else torch.tensor(own, dtype=torch.float64)


def _route(
    decisions: Sequence[Routed], features: Tensor, shapes: Sequence[RowShape]
) -> list[Chosen]:
    """Who answers rows that all ask one router."""
    router = decisions[0].router
    choice = router.route(features, shapes)
    nothing: list[None] = [None] * len(features)
    return [
        Chosen(
            decision.experts[index],
            confidence,
            index,
            None
            if second < 0 or not decision.second_opinion
            else Second(decision.experts[second][0], second, probabilities[1]),
            strangeness,
            near=tuple(
                Near(tuple(member.task for member in router.columns[column]), probability)
                for column, probability in zip(columns, probabilities, strict=True)
                if probability > 0
            ),
        )
        for decision, index, second, confidence, strangeness, columns, probabilities in zip(
            decisions,
            choice.index.tolist(),
            router.second(choice).tolist(),
            choice.confidence.tolist(),
            nothing if choice.strangeness is None else choice.strangeness.tolist(),
            choice.near.tolist(),
            choice.near_probability.tolist(),
            strict=True,
        )
    ]


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
