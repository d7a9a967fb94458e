"""Rows that are ready, answered: the passes that they take together, and what is made of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from expertbank.backbones.batches import EVALUATION_BATCH
from expertbank.kinds import KINDS
from expertbank.kinds.kind import Answer
from expertbank.models.routed import PassOutput, RoutedModel
from expertbank.models.writing import WriteOptions
from expertbank.records import EncodedRow, ProgressCallback, no_progress
from expertbank.routing.columns import Member
from expertbank.routing.sureness import in_steps, unasked
from expertbank.workflows.answering.decision import (
    Answerer,
    Chosen,
    Named,
    Routed,
    choose,
    decided,
    settle,
)
from expertbank.workflows.answering.prediction import ABSTAINED, UNKNOWN, Prediction, Question
from expertbank.workflows.measure import run, trunk_features


class Passes:
    """Answers rows, whoever decided on them. Safe for several threads at once.

    Args:
        model: the one-pass model.
        labels_of: what the outputs of an expert mean.
    """

    def __init__(
        self, model: RoutedModel, labels_of: Callable[[Member | Answerer], tuple[str, ...]]
    ) -> None:
        self.model = model
        self.labels_of = labels_of

    def answer(
        self,
        questions: Sequence[Question],
        *,
        batch_size: int = EVALUATION_BATCH,
        progress: ProgressCallback = no_progress,
    ) -> list[Prediction]:
        """Answer rows, each as its own decision says, whatever the others' say.

        Args:
            questions: what ``questions`` of this predictor gave.
            batch_size: rows a forward pass.
            progress: told as batches finish.

        Returns:
            The predictions, in the order of the questions.

        Raises:
            IntegrityError: an expert's file is damaged.
            ExpertBankError: this process is a fork of one that has predicted or trained.
        """
        if any(one.only_routed for one in questions):
            return self._parted(questions, batch_size, progress)
        if not questions:
            return []
        decisions = [one.decision for one in questions]
        shapes = [one.row.shape for one in questions]
        chosen, routed_by = self._chosen_before(questions)

        def first(features: Tensor, positions: Sequence[int]) -> list[str]:
            places = [place for place, p in enumerate(positions) if p not in chosen]
            fresh = [positions[place] for place in places]
            own = features[places] if len(fresh) < len(positions) else features
            found = choose([decisions[p] for p in fresh], own, [shapes[p] for p in fresh])
            chosen.update(zip(fresh, found, strict=True))
            return [chosen[p].experts[0].digest for p in positions]

        heard: dict[int, _Heard] = {}
        encoded = [
            _read_by(chosen[place].experts[0], one) if place in chosen else one.encoded
            for place, one in enumerate(questions)
        ]
        write = _written_for(questions, telling=True)
        for output in run(self.model, encoded, first, "predicting", progress, batch_size, write):
            experts = [chosen[row].experts[0] for row in output.rows]
            heard.update(self._heard(output, output.rows, experts))
        self._ask_seconds(questions, chosen, heard, batch_size)
        places = range(len(questions))
        settled = settle(
            decisions,
            [chosen[place] for place in places],
            torch.stack([routed_by.get(place, heard[place].features) for place in places]),
            shapes,
            [one.encoded.length for one in questions],
            torch.stack([heard[place].sureness for place in places]),
        )
        chosen = dict(enumerate(settled))
        answers = {
            place: [
                self._prediction(
                    questions[place], chosen[place], 0, heard[place].output, heard[place].place
                )
            ]
            for place in places
        }
        self._fall_back(questions, chosen, answers, batch_size)
        # The other experts of a group answer in further passes, over the group's rows only.
        for slot in range(1, max((len(choice.experts) for choice in chosen.values()), default=0)):
            among = [place for place in places if len(chosen[place].experts) > slot]
            for position, answer in self._again(questions, among, chosen, slot, batch_size):
                answers[position].append(answer)
        return [
            replace(own[0], answers=tuple(own)) if len(own) > 1 else own[0]
            for own in (answers[place] for place in places)
        ]

    def _chosen_before(
        self, questions: Sequence[Question]
    ) -> tuple[dict[int, Chosen], dict[int, Tensor]]:
        """Who answers texts that are cut, by the trunk alone, where that decides what is read.

        The router reads the beginning of a text, and an expert that writes its end.

        Returns:
            By place the choice, and the features ``[dimension]`` behind it.
        """
        cut = [place for place, one in enumerate(questions) if one.encoded.ending]
        decisions = {place: questions[place].decision for place in cut}
        chosen = {
            place: Chosen(decision.experts, 1.0)
            for place, decision in decisions.items()
            if isinstance(decision, Named)
        }
        places = [place for place in cut if place not in chosen]
        if not places:
            return chosen, {}
        features = trunk_features(self.model, [questions[place].encoded for place in places])
        shapes = [questions[place].row.shape for place in places]
        found = choose([decisions[place] for place in places], features, shapes)
        chosen.update(zip(places, found, strict=True))
        return chosen, dict(zip(places, features, strict=True))

    def _parted(
        self, questions: Sequence[Question], batch_size: int, progress: ProgressCallback
    ) -> list[Prediction]:
        """``answer`` where some rows are only routed."""
        routed = [one for one in questions if one.only_routed]
        others = [one for one in questions if not one.only_routed]
        told = iter(self._only_routed(routed))
        answered = iter(self.answer(others, batch_size=batch_size, progress=progress))
        return [next(told if one.only_routed else answered) for one in questions]

    def _only_routed(self, questions: Sequence[Question]) -> list[Prediction]:
        """Who would answer, from the trunk alone; unknown rows are told without any expert."""
        decisions = [one.decision for one in questions]
        shapes = [one.row.shape for one in questions]
        features = trunk_features(self.model, [one.encoded for one in questions])
        settled = settle(
            decisions,
            choose(decisions, features, shapes),
            features,
            shapes,
            [one.encoded.length for one in questions],
            unasked(len(questions)),
        )
        return [
            _told(question, chosen, 0, Answer(None, {}, ""), self._elsewhere(chosen.experts[0]))
            for question, chosen in zip(questions, settled, strict=True)
        ]

    def _elsewhere(self, expert: Member | Answerer) -> str | None:
        """What the adapter is called that answers in the expert's place, if one does."""
        return self.labels_of(expert)[0] if KINDS.get(expert.kind).elsewhere else None

    def _heard(
        self, output: PassOutput, places: Sequence[int], experts: Sequence[Member | Answerer]
    ) -> dict[int, _Heard]:
        """What experts said in one pass, by the place of the row."""
        features, sureness = output.features, self._sureness(output, experts)
        return {
            place: _Heard(output, number, features[number], sureness[number])
            for number, place in enumerate(places)
        }

    def _ask_seconds(
        self,
        questions: Sequence[Question],
        chosen: dict[int, Chosen],
        heard: dict[int, _Heard],
        batch_size: int,
    ) -> None:
        """Where the two best lie close, and the caller wants it, both are asked."""
        places = [place for place in sorted(chosen) if chosen[place].second is not None]

        def seconds(rows: Sequence[int]) -> list[Member]:
            own = [chosen[places[row]].second for row in rows]
            return [one.expert for one in own if one is not None]

        def named(features: Tensor, positions: Sequence[int]) -> list[str]:
            return [expert.digest for expert in seconds(positions)]

        others: dict[int, _Heard] = {}
        asked = [questions[place] for place in places]
        experts = seconds(range(len(places)))
        subset, write = list(map(_read_by, experts, asked)), _written_for(asked)
        for output in run(
            self.model, subset, named, "predicting", batch_size=batch_size, write=write
        ):
            own = [places[row] for row in output.rows]
            others.update(self._heard(output, own, seconds(output.rows)))
        if not places:
            return
        found = decided(
            [questions[place].decision for place in places],
            [chosen[place] for place in places],
            torch.stack([heard[place].sureness for place in places]),
            torch.stack([others[place].sureness for place in places]),
        )
        for place, one in zip(places, found, strict=True):
            if one.column != chosen[place].column:
                heard[place] = others[place]
            chosen[place] = one

    def _fall_back(
        self,
        questions: Sequence[Question],
        chosen: dict[int, Chosen],
        answers: dict[int, list[Prediction]],
        batch_size: int,
    ) -> None:
        """The fallback answers unknown rows in a further pass, if the caller gave one."""
        spared = [place for place in sorted(chosen) if chosen[place].spared]
        for place in spared:
            decision = questions[place].decision
            assert isinstance(decision, Routed)
            assert decision.fallback is not None
            chosen[place] = replace(chosen[place], experts=(decision.fallback,))
        for place, answer in self._again(questions, spared, chosen, 0, batch_size):
            answers[place] = [answer]

    def _again(
        self,
        questions: Sequence[Question],
        places: Sequence[int],
        chosen: Mapping[int, Chosen],
        slot: int,
        batch_size: int,
    ) -> Iterator[tuple[int, Prediction]]:
        def named(features: Tensor, positions: Sequence[int]) -> list[str]:
            return [chosen[places[position]].experts[slot].digest for position in positions]

        asked = [questions[place] for place in places]
        experts = [chosen[place].experts[slot] for place in places]
        subset, write = list(map(_read_by, experts, asked)), _written_for(asked)
        for output in run(
            self.model, subset, named, "predicting", batch_size=batch_size, write=write
        ):
            for index, position in enumerate(output.rows):
                place = places[position]
                yield (
                    place,
                    self._prediction(questions[place], chosen[place], slot, output, index),
                )

    def _sureness(self, output: PassOutput, experts: Sequence[Member | Answerer]) -> Tensor:
        """``[rows]`` int16 of the experts that answered them."""
        found = unasked(len(experts))
        kinds = [expert.kind for expert in experts]
        for kind in set(kinds):
            own = [place for place, name in enumerate(kinds) if name == kind]
            found[own] = in_steps(KINDS.get(kind).sureness(output.logits[own]))
        return found

    def _prediction(
        self, question: Question, chosen: Chosen, slot: int, output: PassOutput, place: int
    ) -> Prediction:
        if chosen.abstained:
            return _told(question, chosen, slot, Answer(UNKNOWN, {}, ABSTAINED))
        expert = chosen.experts[slot]
        kind, elsewhere = KINDS.get(expert.kind), self._elsewhere(expert)
        written = output.written[place] if output.written else None
        if written is not None:
            answer = kind.of_written(written.text, question.row)
            told = _told(question, chosen, slot, answer, elsewhere)
            return replace(told, finish=written.finish, written_tokens=written.tokens)
        logits, edges = output.logits[place], output.thresholds[place]
        answer = kind.answer(logits, question.row, self.labels_of(expert), edges)
        return _told(question, chosen, slot, answer, elsewhere)


def _told(
    question: Question, chosen: Chosen, slot: int, answer: Answer, elsewhere: str | None = None
) -> Prediction:
    """An answer, with who gives it and why."""
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


def _read_by(expert: Member | Answerer, question: Question) -> EncodedRow:
    """What of a row an expert reads."""
    writes = KINDS.get(expert.kind).writes
    return question.encoded.to_write_on if writes else question.encoded


def _written_for(questions: Sequence[Question], *, telling: bool = False) -> WriteOptions | None:
    """What is wanted of what is written for these rows; ``None`` where nobody may write."""
    if not any(one.decision.writes for one in questions):
        return None

    def told(row: int, text: str) -> bool:
        own = questions[row].told
        return own is None or own(text)

    def wanted(row: int) -> bool:
        own = questions[row].wanted
        return own is None or own()

    heard = telling and any(one.told for one in questions)
    return WriteOptions(lambda row: questions[row].sampling, told if heard else None, wanted)


@dataclass(frozen=True, slots=True)
class _Heard:
    """What an expert said of one row, and how sure it was.

    Attributes:
        output: of the pass.
        place: of the row in it.
        features: ``[dimension]`` of the row, on the CPU as those of ``trunk_features``.
        sureness: of the expert.
    """

    output: PassOutput
    place: int
    features: Tensor
    sureness: Tensor
