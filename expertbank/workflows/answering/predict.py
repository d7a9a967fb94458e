"""``predict``: one path for bank and bundle, so that both give the same answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol

import torch
from torch import Tensor

from expertbank.backbones.batches import EVALUATION_BATCH
from expertbank.backbones.forks import computing, require_threads
from expertbank.data import RowLike, TaskSpec, as_rows
from expertbank.data.encode import encode_as_they_are, unreadable
from expertbank.errors import InputError, IntegrityError, NotFoundError
from expertbank.kinds import KINDS
from expertbank.models.routed import PassOutput, RoutedModel
from expertbank.models.writing import WriteOptions
from expertbank.records import (
    EncodedRow,
    ProgressCallback,
    ProgressEvent,
    Row,
    no_progress,
)
from expertbank.routing.columns import Member
from expertbank.routing.router import Router
from expertbank.routing.sureness import in_steps, unasked
from expertbank.workflows.answering.decision import (
    Answerer,
    Chosen,
    Decision,
    Named,
    Routed,
    choose,
    decided,
    settle,
    unanswerable,
)
from expertbank.workflows.answering.prediction import UNKNOWN, Prediction, Question
from expertbank.workflows.measure import run, trunk_features

Told = Callable[[int, str], bool]
"""Takes a row's index and its answer so far; false ends it."""

CHUNK = 1024
"""Rows encoded and answered at a time: memory does not grow with the input."""

CHUNK_CHARACTERS = 4_000_000
"""Text encoded and answered at a time, but for one row that is longer."""


class Experts(Protocol):
    """Who may be named to answer, asked for one at a time: a bank may hold ten thousand."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that can be named, by name."""

    def named(self, task: str) -> Answerer:
        """The expert that answers when ``task`` is named; ``NotFoundError`` without one."""

    def data_spec(self, expert: Answerer) -> TaskSpec:
        """How to read rows of an expert's task: the columns and labels it was trained on."""


class Predictor:
    """Routes and answers rows. Safe for several threads at once.

    Its router is the one it was made with, and so are the experts that the router chooses, by
    digest, whatever becomes of the bank or the bundle meanwhile; a named task is looked up at
    every call. What it holds no more and cannot load as it was, it refuses to answer with.

    Args:
        model: the one-pass model, whose pool knows experts by digest.
        experts: every expert that may be named.
        router: the router; ``None`` allows only rows whose task is named.
        router_digest: of the router's file, if it has one.
        remarks: what is odd about where these are from and yet no reason to refuse it.
    """

    def __init__(
        self,
        model: RoutedModel,
        experts: Experts,
        router: Router | None,
        router_digest: str | None = None,
        remarks: tuple[str, ...] = (),
    ) -> None:
        self.model = model
        self.remarks = remarks
        self.router_digest = router_digest
        self.experts = experts
        self._routed = None if router is None else Routed.over(router)
        self._labels: dict[str, tuple[str, ...]] = {}

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that can be named."""
        return self.experts.tasks

    @property
    def router(self) -> Router | None:
        """The router."""
        return None if self._routed is None else self._routed.router

    def over(self, experts: Experts) -> Predictor:
        """The same model and router, with other experts to be named."""
        return Predictor(self.model, experts, self.router, self.router_digest, self.remarks)

    @property
    def has_router(self) -> bool:
        """Whether rows can be answered without naming a task."""
        return self._routed is not None

    def answerer(self, task: str) -> Answerer:
        """The expert that answers when ``task`` is named.

        It is the newest; the router may still hold an older one, see ``member``.

        Raises:
            NotFoundError: no such task.
            IntegrityError: its file is of another task.
        """
        return self.checked(self.experts.named(task))

    def checked(self, expert: Answerer) -> Answerer:
        """The expert, if its file is what is said of it; loads it.

        Raises:
            IntegrityError: its file is damaged, or of another task.
        """
        if self.labels_of(expert) != expert.labels:
            raise IntegrityError(f"expert {expert.id}: its file has other labels")
        return expert

    def member(self, task: str) -> Answerer | None:
        """The expert of ``task`` that the router chooses; ``None`` if it knows none."""
        members = () if self._routed is None else self._routed.router.members
        for one in members:
            if one.task == task:
                return Answerer(one.id, one.digest, task, one.kind, self.labels_of(one))
        return None

    def older_member(self, task: str) -> str | None:
        """A sentence on a router that holds another expert than the task's newest."""
        newest, routed = self.answerer(task), self.member(task)
        if routed is None or routed.digest == newest.digest:
            return None
        return (
            f"note: {task} is answered by {newest.id} when it is named, and by {routed.id} when "
            "the router chooses; run: expertbank retrain-router"
        )

    def data_spec(self, expert: Answerer) -> TaskSpec:
        """How to read rows of an expert's task: the columns and labels it was trained on.

        Raises:
            StaleError: the bank holds another expert under this name now.
        """
        return self.experts.data_spec(expert)

    def labels_of(self, expert: Member | Answerer) -> tuple[str, ...]:
        """What the outputs of an expert mean, as its own file says; loads it.

        Raises:
            IntegrityError: its file is damaged, or of another task.
        """
        found = self._labels.get(expert.digest)
        if found is None:
            held = self.model.pool.expert(expert.digest)
            if held.task != expert.task:
                raise IntegrityError(f"expert {expert.id}: its file is of task {held.task!r}")
            found = self._labels[expert.digest] = held.labels
        return found

    def predict(
        self,
        rows: RowLike | Iterable[RowLike | InputError],
        *,
        task: str | None = None,
        abstain: bool = False,
        fallback: str | None = None,
        second_opinion: bool = False,
        batch_size: int = EVALUATION_BATCH,
        progress: ProgressCallback = no_progress,
        on_bad: Callable[[InputError], None] | None = None,
        total: int = 0,
        told: Told | None = None,
    ) -> Iterator[Prediction]:
        """Answer rows in their order, a bounded number at a time.

        A row with choices goes to multiple-choice experts only, any other row to the rest; a
        pair of texts to experts trained on pairs, one text to those trained on one.

        Args:
            rows: one row or many, see ``tasks.as_rows``; labels are ignored. What lies in memory
                is read at once, a stream as it is answered. An error stands for a row that could
                not be read.
            task: name the task and leave the router out.
            abstain: answer ``unknown`` to rows that are like no task that may answer them.
            fallback: send such rows to this task's expert instead, where it can read them.
            second_opinion: where the two best tasks lie close, ask both experts, and take the one
                whose row it is more likely by how sure each is. Such rows take a second pass. What
                reports prove is routing without.
            batch_size: rows a forward pass.
            progress: told as batches finish.
            on_bad: takes what is wrong with a row that cannot be read or answered; the row is
                left out, and its index with it. Without it a row in memory that cannot be read
                is refused at once; in a stream it ends the work, after the rows before it were
                answered, and so does a row that nobody here can answer.
            total: how many rows there are, for ``progress``; 0 when nobody knows.
            told: takes the index of a row whose answer is written, and what of it is settled,
                after each token; false ends the answer. Rows are then answered one after the
                other. Of a group the first expert's answer is told.

        Raises:
            NotFoundError: no such task, or no router and no task named.
            InputError: a row that could not be read, or that no expert here can answer:
                choices without a multiple-choice expert, or the other way round; or options
                that exclude each other.
            ExpertBankError: this process is a fork of one that has predicted or trained.
        """
        if told is not None and (abstain or fallback is not None or second_opinion):
            raise InputError(
                "what is told while it is written cannot be taken back: leave out the second "
                "opinion, abstaining and the fallback, which are decided after it"
            )
        decision = self.decision(
            task, abstain=abstain, fallback=fallback, second_opinion=second_opinion
        )
        return self._answers(rows, decision, batch_size, progress, on_bad, total, told)

    def predict_with(
        self,
        expert: Answerer,
        rows: RowLike | Iterable[RowLike],
        *,
        progress: ProgressCallback = no_progress,
    ) -> Iterator[Prediction]:
        """As ``predict`` with a task named, but by this very expert."""
        return self._answers(rows, Named.of(expert), EVALUATION_BATCH, progress, None, 0, None)

    def _answers(
        self,
        rows: RowLike | Iterable[RowLike | InputError],
        decision: Decision,
        batch_size: int,
        progress: ProgressCallback,
        on_bad: Callable[[InputError], None] | None,
        total: int,
        told: Told | None,
    ) -> Iterator[Prediction]:
        require_threads()
        given = as_rows(rows)
        if isinstance(given, list):
            total = len(given)
            wrong = next((row for row in given if isinstance(row, InputError)), None)
            if wrong is not None and on_bad is None:
                raise wrong
        return self._stream(iter(given), decision, batch_size, progress, on_bad, total, told)

    def _stream(
        self,
        rows: Iterator[Row | InputError],
        decision: Decision,
        batch_size: int,
        progress: ProgressCallback,
        on_bad: Callable[[InputError], None] | None,
        total: int,
        told: Told | None,
    ) -> Iterator[Prediction]:
        numbered = enumerate(rows)
        done, most = 0, CHUNK if told is None else 1
        while True:
            chunk, error, ended = self._chunk(numbered, decision, on_bad, most)
            questions, first = self._readable(self._asked(chunk, decision), on_bad)
            if told is not None:
                questions = [replace(one, told=partial(told, one.index)) for one in questions]
            if questions:
                meter = _Shifted(progress, done, max(total, done + len(questions)))
                yield from self.answer(questions, batch_size=batch_size, progress=meter)
                done += len(questions)
            error = first or error
            if error is not None:
                raise error
            if ended:
                return

    def decision(
        self,
        task: str | None = None,
        *,
        abstain: bool = False,
        fallback: str | None = None,
        second_opinion: bool = False,
    ) -> Decision:
        """Who answers rows; for the arguments see ``predict``.

        Raises:
            NotFoundError: no such task, no router and no task named, or a router that cannot tell
                unknown rows.
            InputError: options that exclude each other.
            IntegrityError: the file of a named task's expert is damaged.
        """
        if (task is not None) + abstain + (fallback is not None) > 1:
            raise InputError("name a task, or abstain, or give a fallback: only one of them")
        if task is not None and second_opinion:
            raise InputError("a named task is answered by its expert: there is no second opinion")
        if task is not None:
            return Named.of(self.answerer(task))
        if self._routed is None:
            raise NotFoundError(
                "there is no router yet; run: expertbank retrain-router, "
                "or name the task with --task"
            )
        if (abstain or fallback) and self._routed.router.unknown is None:
            raise NotFoundError(
                "this router cannot tell unknown rows: it holds no statistics of known ones, for "
                "no task has 10 rows or more. Add rows, then run: expertbank retrain-router"
            )
        spare = None if fallback is None else self.answerer(fallback)
        own = self._routed
        writes = own.writes or (spare is not None and KINDS.get(spare.kind).writes)
        return replace(
            own, abstain=abstain, fallback=spare, second_opinion=second_opinion, writes=writes
        )

    def _chunk(
        self,
        numbered: Iterator[tuple[int, Row | InputError]],
        decision: Decision,
        on_bad: Callable[[InputError], None] | None,
        most: int,
    ) -> tuple[list[_Numbered], InputError | None, bool]:
        """The next rows, the error that ends them, and whether the input ended."""
        chunk: list[_Numbered] = []
        characters = 0
        while len(chunk) < most and characters < CHUNK_CHARACTERS:
            following = next(numbered, None)
            if following is None:
                return chunk, None, True
            index, row = following
            wrong = row if isinstance(row, InputError) else unanswerable(row, decision)
            if isinstance(row, Row) and wrong is None:
                chunk.append((index, row))
                characters += len(row.text) + len(row.text_pair or "") + sum(map(len, row.choices))
            elif wrong is not None and on_bad is None:
                return chunk, wrong, True
            elif wrong is not None and on_bad is not None:
                on_bad(wrong)
        return chunk, None, False

    def questions(self, rows: Sequence[Row], decision: Decision) -> list[Question | InputError]:
        """Rows ready to be answered; in the place of one that cannot be, what is wrong.

        Rows are numbered from 0. Any thread may do this while others answer.

        Args:
            rows: canonical rows, see ``as_rows``.
            decision: who answers them.
        """
        found: dict[int, Question | InputError] = {}
        good: list[_Numbered] = []
        for index, row in enumerate(rows):
            wrong = unanswerable(row, decision)
            if wrong is None:
                good.append((index, row))
            else:
                found[index] = wrong
        asked = self._asked(good, decision)
        found.update((index, one) for (index, _), one in zip(good, asked, strict=True))
        return [found[index] for index in range(len(rows))]

    def _asked(
        self, numbered: Sequence[_Numbered], decision: Decision
    ) -> list[Question | InputError]:
        """Rows that ``decision`` allows, encoded, or why the backbone cannot read them."""
        encoded = self._encode([row for _, row in numbered], endings=decision.writes)
        return [
            unreadable(row, one, *self._limits) or Question(row, one, decision, index)
            for (index, row), one in zip(numbered, encoded, strict=True)
        ]

    def _readable(
        self,
        asked: Sequence[Question | InputError],
        on_bad: Callable[[InputError], None] | None,
    ) -> tuple[list[Question], InputError | None]:
        """The rows that the backbone can read, and the error of the first other that ends them."""
        kept: list[Question] = []
        for one in asked:
            if isinstance(one, Question):
                kept.append(one)
            elif on_bad is None:
                return kept, one
            else:
                on_bad(one)
        return kept, None

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
            replace(
                _plain(question, chosen, 0),
                label=None,
                text="",
                external_adapter=self._elsewhere(chosen.experts[0]),
            )
            for question, chosen in zip(questions, settled, strict=True)
        ]

    def _elsewhere(self, expert: Member | Answerer) -> str | None:
        """What the adapter is called that answers in the expert's place, if one does."""
        return self.labels_of(expert)[0] if KINDS.get(expert.kind).elsewhere else None

    def _heard(
        self, output: PassOutput, places: Sequence[int], experts: Sequence[Member | Answerer]
    ) -> dict[int, _Heard]:
        """What experts said in one pass, by the place of the row."""
        sureness = self._sureness(output, experts)
        return {
            place: _Heard(output, number, sureness[number]) for number, place in enumerate(places)
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
            found[own] = in_steps(KINDS.get(kind).sureness(output.logits[own].cpu()))
        return found

    @computing()
    def _encode(self, rows: Sequence[Row], *, endings: bool) -> list[EncodedRow]:
        tokenizer, length = self.model.backbone.tokenizer, self.model.spec.max_length
        return encode_as_they_are(rows, tokenizer, None, (), length, endings=endings)

    @cached_property
    def _limits(self) -> tuple[int, int | None]:
        """Tokens that the backbone knows, and how many of them it can read at once."""
        return self.model.backbone.vocabulary, self.model.backbone.longest_sequence

    def _prediction(
        self, question: Question, chosen: Chosen, slot: int, output: PassOutput, place: int
    ) -> Prediction:
        expert = chosen.experts[slot]
        plain = _plain(question, chosen, slot)
        if chosen.abstained:
            return plain
        kind = KINDS.get(expert.kind)
        written = output.written[place] if output.written else None
        if written is not None:
            answer = kind.of_written(written.text, question.row)
            plain = replace(plain, finish=written.finish, written_tokens=written.tokens)
        else:
            answer = kind.answer(
                output.logits[place],
                question.row,
                self.labels_of(expert),
                output.thresholds[place],
            )
        return replace(
            plain,
            label=answer.label,
            scores=answer.scores,
            choice=answer.choice,
            labels=answer.labels,
            thresholds=answer.thresholds,
            text=answer.text,
            written=answer.written,
            external_adapter=self._elsewhere(expert),
        )


def _plain(question: Question, chosen: Chosen, slot: int) -> Prediction:
    """Who answers a row, without the answer."""
    expert = chosen.experts[slot]
    return Prediction(
        question.index,
        expert.task,
        expert.id,
        chosen.confidence,
        UNKNOWN,
        {},
        abstained=chosen.abstained,
        unknown=chosen.unknown,
        unknown_score=chosen.unknown_score,
        unknown_p_value=chosen.unknown_p_value,
        near=chosen.near,
        second=chosen.asked_too,
        tokens=question.encoded.length,
        truncated=question.encoded.truncated,
        expert_digest=expert.digest,
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

    heard = telling and any(one.told for one in questions)
    return WriteOptions(lambda row: questions[row].sampling, told if heard else None)


@dataclass(frozen=True, slots=True)
class _Heard:
    """What an expert said of one row: its place in a pass, and how sure it was."""

    output: PassOutput
    place: int
    sureness: Tensor

    @property
    def features(self) -> Tensor:
        """``[dimension]`` of the row."""
        return self.output.features[self.place]


_Numbered = tuple[int, Row]
"""A row and its position in the input."""


@dataclass(frozen=True, slots=True)
class _Shifted:
    """Progress of one chunk as progress of the whole."""

    progress: ProgressCallback
    done: int
    total: int

    def __call__(self, event: ProgressEvent) -> None:
        done = self.done + event.done
        self.progress(replace(event, done=done, total=self.total, seconds_left=None))
