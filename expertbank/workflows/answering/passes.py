"""Rows that are ready, answered: the passes that they take together, and what is made of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from expertbank.backbones.batches import EVALUATION_BATCH
from expertbank.kinds import KINDS
from expertbank.kinds.answer import Answer
from expertbank.models.routed import PassOutput, RoutedModel
from expertbank.models.writing import WriteOptions
from expertbank.records import EncodedRow, ProgressCallback, no_progress
from expertbank.routing.columns import Member
from expertbank.routing.sureness import in_steps, unasked
from expertbank.workflows.answering.choosing import Chosen, choose, decided, settle
from expertbank.workflows.answering.decision import Answerer, Named
from expertbank.workflows.answering.prediction import (
    ABSTAINED,
    UNKNOWN,
    Prediction,
    Question,
    predicted,
)
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
        spared = {place: one.experts[0] for place, one in enumerate(settled) if one.spared}
        heard |= self._ask(questions, spared, batch_size)
        answers: list[list[Prediction]] = [[] for _ in places]
        # The other experts of a group answer in further passes, over the group's rows only.
        for slot in range(max(len(one.experts) for one in settled)):
            among = {
                p: one.experts[slot] for p, one in enumerate(settled) if len(one.experts) > slot
            }
            said = self._ask(questions, among, batch_size) if slot else heard
            for place in among:
                one = self._prediction(questions[place], settled[place], slot, said[place])
                answers[place].append(one)
        return [replace(own[0], answers=tuple(own)) if len(own) > 1 else own[0] for own in answers]

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
            predicted(question, chosen, 0, Answer(None, {}, ""), self._elsewhere(chosen.experts[0]))
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

    def _ask(
        self,
        questions: Sequence[Question],
        experts: Mapping[int, Member | Answerer],
        batch_size: int,
    ) -> dict[int, _Heard]:
        """What experts say of some rows, by the places of those, in passes of their own."""
        places, named = list(experts), list(experts.values())
        asked = [questions[place] for place in places]
        encoded, write = list(map(_read_by, named, asked)), _written_for(asked)

        def first(features: Tensor, positions: Sequence[int]) -> list[str]:
            return [named[position].digest for position in positions]

        heard: dict[int, _Heard] = {}
        for output in run(
            self.model, encoded, first, "predicting", batch_size=batch_size, write=write
        ):
            own = [places[row] for row in output.rows]
            heard |= self._heard(output, own, [named[row] for row in output.rows])
        return heard

    def _ask_seconds(
        self,
        questions: Sequence[Question],
        chosen: dict[int, Chosen],
        heard: dict[int, _Heard],
        batch_size: int,
    ) -> None:
        """Where the two best lie close, and the caller wants it, both are asked."""
        seconds = {p: one.second.experts[0] for p, one in sorted(chosen.items()) if one.second}
        if not seconds:
            return
        others = self._ask(questions, seconds, batch_size)
        found = decided(
            [questions[place].decision for place in seconds],
            [chosen[place] for place in seconds],
            torch.stack([heard[place].sureness for place in seconds]),
            torch.stack([others[place].sureness for place in seconds]),
        )
        for place, one in zip(seconds, found, strict=True):
            if one.column != chosen[place].column:
                heard[place] = others[place]
            chosen[place] = one

    def _sureness(self, output: PassOutput, experts: Sequence[Member | Answerer]) -> Tensor:
        """``[rows]`` int16 of the experts that answered them."""
        found = unasked(len(experts))
        kinds = [expert.kind for expert in experts]
        for kind in set(kinds):
            own = [place for place, name in enumerate(kinds) if name == kind]
            found[own] = in_steps(KINDS.get(kind).sureness(output.logits[own]))
        return found

    def _prediction(
        self, question: Question, chosen: Chosen, slot: int, heard: _Heard
    ) -> Prediction:
        if chosen.abstained:
            return predicted(question, chosen, slot, Answer(UNKNOWN, {}, ABSTAINED))
        expert = chosen.experts[slot]
        kind, elsewhere = KINDS.get(expert.kind), self._elsewhere(expert)
        output, place = heard.output, heard.place
        written = output.written[place] if output.written else None
        if written is not None:
            answer = kind.of_written(written.text, question.row)
            told = predicted(question, chosen, slot, answer, elsewhere)
            return replace(told, finish=written.finish, written_tokens=written.tokens)
        logits, edges = output.logits[place], output.thresholds[place]
        answer = kind.answer(logits, question.row, self.labels_of(expert), edges)
        return predicted(question, chosen, slot, answer, elsewhere)


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
