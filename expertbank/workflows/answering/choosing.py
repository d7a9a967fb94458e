"""Who answers each row, and what is known of it.

Two steps: ``choose`` before an expert has answered, ``settle`` after, for only then is it known
whether the row is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from expertbank.records import RowShape
from expertbank.routing.columns import Member
from expertbank.routing.unknown import UnknownModel
from expertbank.workflows.answering.decision import Answerer, Decision, Named, Routed


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
        column: of the router; ``None`` when the caller named one.
        second: who is to be asked too, for the two best lie close, with what stands to the left;
            ``None`` for nobody.
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
    second: Chosen | None = None
    strangeness: float | None = None
    unknown: bool | None = None
    unknown_score: float | None = None
    unknown_p_value: float | None = None
    near: tuple[Near, ...] = ()
    abstained: bool = False
    spared: bool = False
    asked_too: str = ""


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
        odds = torch.tensor([one.confidence, one.second.confidence], dtype=torch.float64)
        both = float(odds.sum())
        mine, other = (torch.softmax(odds.log() + said, 0) * both).tolist()
        best, rest = (one.second, one) if other > mine else (one, one.second)
        found.append(
            replace(
                one,
                experts=best.experts,
                column=best.column,
                confidence=max(mine, other),
                asked_too=rest.experts[0].id,
            )
        )
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
                assert one.fallback is not None
                confidence = one.probability_of_fallback(probabilities)
                experts = (one.fallback,)
                found[place] = replace(found[place], experts=experts, confidence=confidence)
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
            else Chosen(decision.experts[second][:1], probabilities[1], second),
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
