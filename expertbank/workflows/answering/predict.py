"""``predict``: one path for bank and bundle, so that both give the same answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from expertbank.backbones.batches import EVALUATION_BATCH
from expertbank.backbones.forks import require_threads
from expertbank.data import RowLike, TaskSpec, as_rows
from expertbank.errors import InputError, IntegrityError, NotFoundError
from expertbank.kinds import KINDS
from expertbank.models.routed import RoutedModel
from expertbank.plain import typed
from expertbank.records import ProgressCallback, ProgressEvent, Row, no_progress
from expertbank.routing.columns import Member
from expertbank.routing.router import Router
from expertbank.settings import number
from expertbank.workflows.answering.decision import Answerer, Decision, Named, Routed
from expertbank.workflows.answering.experts import Experts, answerers
from expertbank.workflows.answering.passes import Passes
from expertbank.workflows.answering.prediction import Prediction, Question
from expertbank.workflows.answering.reading import CHUNK, Reader, chunked, readable
from expertbank.writing import GREEDY, Sampling

Told = Callable[[int, str], bool]
"""Takes a row's index and its answer so far; false ends it."""


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
        self._reader = Reader(model)
        self._passes = Passes(model, self.labels_of)

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

    def knows(self, expert: Answerer) -> bool:
        """Whether ``labels_of`` reads no file."""
        return expert.digest in self._labels

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
        sampling: Sampling = GREEDY,
    ) -> Iterator[Prediction]:
        """Answer rows in their order, a bounded number at a time.

        A row with choices goes to multiple-choice experts only, any other row to the rest; a
        pair of texts to experts trained on pairs, one text to those trained on one.

        Args:
            rows: one row or many, see ``expertbank.data.as_rows``; labels are ignored. What lies
                in memory is read at once, a stream as it is answered. An error stands for a row
                that could not be read.
            task: name the task, or the group, and leave the router out.
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
            sampling: what is wanted of answers that are written.

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
        batch_size = number(batch_size, "batch_size", "predict", int, least=1)
        decision = self.decision(
            task, abstain=abstain, fallback=fallback, second_opinion=second_opinion
        )
        return self._answers(rows, decision, batch_size, progress, on_bad, total, told, sampling)

    def predict_with(
        self,
        expert: Answerer,
        rows: RowLike | Iterable[RowLike],
        *,
        progress: ProgressCallback = no_progress,
    ) -> Iterator[Prediction]:
        """As ``predict`` with a task named, but by this very expert."""
        return self._answers(rows, Named.of(expert), progress=progress)

    def _answers(
        self,
        rows: RowLike | Iterable[RowLike | InputError],
        decision: Decision,
        batch_size: int = EVALUATION_BATCH,
        progress: ProgressCallback = no_progress,
        on_bad: Callable[[InputError], None] | None = None,
        total: int = 0,
        told: Told | None = None,
        sampling: Sampling = GREEDY,
    ) -> Iterator[Prediction]:
        require_threads()
        given = as_rows(rows)
        if isinstance(given, list):
            wrong = next((row for row in given if isinstance(row, InputError)), None)
            if wrong is not None and on_bad is None:
                raise wrong
        numbered, known = enumerate(given), len(given) if isinstance(given, list) else total

        def stream() -> Iterator[Prediction]:
            done, most = 0, CHUNK if told is None else 1
            while True:
                chunk, error, ended = chunked(numbered, decision, on_bad, most)
                questions, first = readable(self._reader.asked(chunk, decision), on_bad)
                questions = [
                    replace(one, sampling=sampling, told=told and partial(told, one.index))
                    for one in questions
                ]
                if questions:
                    meter = _Shifted(progress, done, max(known, done + len(questions)))
                    yield from self.answer(questions, batch_size=batch_size, progress=meter)
                    done += len(questions)
                error = first or error
                if error is not None:
                    raise error
                if ended:
                    return

        return stream()

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
            InputError: options that exclude each other, or of another type.
            IntegrityError: the file of a named task's expert is damaged.
        """
        for option, name in (("task", task), ("fallback", fallback)):
            typed(str | None, name, "predict", option, exact=True)
        for option, wish in (("abstain", abstain), ("second_opinion", second_opinion)):
            typed(bool, wish, "predict", option, exact=True)
        if (task is not None) + abstain + (fallback is not None) > 1:
            raise InputError("name a task, or abstain, or give a fallback: only one of them")
        if task is not None and second_opinion:
            raise InputError("a named task is answered by its expert: there is no second opinion")
        if task is not None:
            return Named.of(*map(self.checked, answerers(self.experts, task)))
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

    def questions(self, rows: Sequence[Row], decision: Decision) -> list[Question | InputError]:
        """Rows ready to be answered, see ``Reader.questions``."""
        return self._reader.questions(rows, decision)

    def answer(
        self,
        questions: Sequence[Question],
        *,
        batch_size: int = EVALUATION_BATCH,
        progress: ProgressCallback = no_progress,
    ) -> list[Prediction]:
        """Answers to what ``questions`` gave, see ``Passes.answer``."""
        return self._passes.answer(questions, batch_size=batch_size, progress=progress)


@dataclass(frozen=True, slots=True)
class _Shifted:
    """Progress of one chunk as progress of the whole."""

    progress: ProgressCallback
    done: int
    total: int

    def __call__(self, event: ProgressEvent) -> None:
        done = self.done + event.done
        self.progress(replace(event, done=done, total=self.total, seconds_left=None))
