"""What a kind of task is: everything in which tasks differ from each other.

A kind is one object without state. It says which rows it reads, what their labels look like, how
an expert's head is trained, which figures are taken, and how an answer is formed and worded.
Nothing outside a kind's file asks for its name.

Torch is imported only inside the methods that need it, so that data can be read without.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from expertbank.errors import DataError
from expertbank.evaluation.decisions import chosen, probabilities
from expertbank.evaluation.outcome import Bools, Counted, Outcome
from expertbank.evaluation.predictions import Floats, Ints, Predictions
from expertbank.evaluation.scores import against_majority
from expertbank.kinds.labels import (
    label_text,
    place_of,
    require_known,
    shown_label,
    sorted_labels,
)
from expertbank.kinds.rules import LabelRules
from expertbank.records import ROW_SHAPES, Row, RowShape, Target
from expertbank.texts import is_blank, plain_text

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-3
"""How near two answers must be for another machine's arithmetic to have swapped them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an expert says of one row.

    Attributes:
        label: the answer in one value: a class name, the text of a choice, or a number; ``None``
            where an answer is a set of labels. Of scores that stand beside it, it has the highest;
            of equally high ones it is the first.
        scores: probability of each label or choice; empty for a number.
        choice: position of the chosen choice.
        labels: the labels that hold, where several may: those whose score is at least that of
            ``thresholds``.
        text: the answer as a person reads it; a label is quoted where it could be taken for
            something else, see ``labels.label_text``.
        thresholds: where several labels may hold, the least score from which on each does.
        written: the answer that was written, where the kind writes.
    """

    label: str | float | None
    scores: Mapping[str, float]
    text: str
    choice: int | None = None
    labels: tuple[str, ...] | None = None
    thresholds: Mapping[str, float] | None = None
    written: str | None = None

    @classmethod
    def of_scores(cls, scores: Mapping[str, float]) -> Answer:
        """The most probable label; of equally probable ones the first."""
        label = max(scores, key=scores.__getitem__)
        return cls(label, scores, label_text(label))


class Objective(ABC):
    """A kind's part in training one expert, in float32. Only ``loss`` must be given."""

    __slots__ = ()

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over rows.

        Args:
            logits: ``[rows, width]``; of a kind that writes, ``[tokens, vocabulary]``.
            targets: ``[rows]`` or ``[rows, labels]`` float32, as ``Kind.target`` made them: a place
                among labels is a number too. Of a kind that writes, ``[tokens]`` int64, the tokens
                of the answers.
        """

    def score(self, logits: Tensor, targets: Tensor) -> float:
        """Mean quality of the rows' answers, which selects the checkpoint; higher is better."""
        return -float(self.loss(logits, targets))

    def logits(self, outputs: Tensor, row_of: Tensor) -> Tensor:
        """Rows' logits ``[rows, width]`` from the head's outputs ``[sequences, outputs]``.

        ``row_of [sequences]`` is the row of each; unless a row brings choices it is one sequence.
        """
        return outputs

    def start(
        self, features: Tensor, row_of: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """First head ``(weight [outputs, hidden], bias [outputs])`` from frozen features.

        ``features`` are ``[sequences, hidden]``. ``None`` starts from zeros, which costs the first
        steps; ``probe_head``, ``probe_flags`` and ``probe_value`` fit one in closed form.
        """
        return None

    def finish(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The head as it is stored."""
        return weight, bias

    def thresholds(self, logits: Tensor, targets: Tensor) -> Tensor | None:
        """Logits ``[outputs]`` from which on an output counts, from held-out training rows.

        Asked for if the kind ``has_thresholds``.
        """
        return None


class Kind(ABC):
    """One kind of task. Only ``name`` and ``objective`` must be given.

    What is not given is that of a row with one of the task's labels, each of which has an output
    of the head, and the highest of them is the answer. A kind that forms its answers otherwise
    gives ``outcome``, ``same`` and ``answer``, which must agree on what was answered
    (``expertbank.testing.kinds`` holds them against each other).

    A kind may have no head: the backbone's own language model ``writes`` its answers, token by
    token. Such a kind has no labels and 0 outputs; it gives ``alike`` and ``of_written`` in place
    of ``same`` and ``answer``, and what stands for logits is ``models.writing.FIGURES``.

    Attributes:
        name: what tasks, files and the database call it: the name it is added under.
        shapes: what its rows bring; a row of another shape is not sent to its experts. How a row is
            encoded depends on its shape alone, since the trunk runs before an expert is chosen.
        misshapen: what to say of a row of another shape.
        scores_sequences: whether the head gives each of a row's sequences one score, instead of
            one sequence all of its outputs.
        writes: whether the language model writes its answers, and there is no head.
        elsewhere: whether an adapter of another program answers, whose name there is the task's
            only label: rows have no label, nothing is trained, and there is no head.
        has_thresholds: whether an expert's file holds ``head.threshold [outputs]`` beside weight
            and bias.
        names_labels: whether its labels have names that belong to the task.
        answers_are_values: whether labels are numbers, of which two of one text may differ.
        label_word: what one of them is called in a table.
        snippet: Python that forms an answer from ``outputs(text, text_pair)`` and ``about``, for
            exports to other programs.
    """

    name: ClassVar[str]
    shapes: ClassVar[frozenset[RowShape]] = frozenset({"single", "pair"})
    misshapen: ClassVar[str] = "the row brings choices, which only multiple-choice tasks read"
    scores_sequences: ClassVar[bool] = False
    writes: ClassVar[bool] = False
    elsewhere: ClassVar[bool] = False
    has_thresholds: ClassVar[bool] = False
    names_labels: ClassVar[bool] = True
    answers_are_values: ClassVar[bool] = False
    label_word: ClassVar[str] = "label"
    snippet: ClassVar[str] = ""

    @property
    def has_head(self) -> bool:
        """Whether an expert's answers come from a head of its own."""
        return not (self.writes or self.elsewhere)

    def complaint(self, name: str) -> str | None:
        """Why this cannot be added under ``name``; ``None`` if it can."""
        own = getattr(self, "name", None)
        if own != name:
            return f"calls itself {own!r}: its `name` must be what it is added under"
        if not self.shapes or not self.shapes <= set(ROW_SHAPES):
            return f"reads rows of shapes {set(self.shapes)}: there are {', '.join(ROW_SHAPES)}"
        return None

    # -- rows and labels ---------------------------------------------------------------------

    def claims(self, *, choices: bool, rules: LabelRules) -> bool:
        """Whether naming such columns can only mean this kind."""
        return False

    def refusal(self, *, choices: bool, rules: LabelRules) -> str | None:
        """Why no row of such columns can be read; ``None`` if it can.

        One column for each label, or a separator of labels, is for kinds that claim it.
        """
        if choices and "choices" not in self.shapes:
            return f"rows of kind {self.name} bring no choices"
        if rules.flags and not self.claims(choices=False, rules=LabelRules(flags=rules.flags)):
            return f"kind {self.name} has one label column, not several: {', '.join(rules.flags)}"
        parted = LabelRules(separator=rules.separator)
        if rules.separator and not self.claims(choices=False, rules=parted):
            return f"rows of kind {self.name} hold no labels that {rules.separator!r} parts"
        return None

    def raw_label(
        self, values: Mapping[str, Any], column: str | None, rules: LabelRules, origin: str
    ) -> Any:
        """What a record says of its label; ``None`` for a row to be left out.

        Raises:
            DataError: it says nothing, or something that is no label.
        """
        value = None if column is None else values.get(column)
        if isinstance(value, (list, tuple)):
            hint = (
                "for several labels a row use --kind multi_label"
                if self.names_labels
                else f"keep one {self.label_word}, or make a row of each"
            )
            raise DataError(
                f"{origin}: column {column!r} holds a list of {self.label_word}s, expected one; "
                f"{hint}",
                f"several {self.label_word}s",
            )
        raw = plain_text(value, origin, column or "label")
        if raw is not None and is_blank(raw):
            raw = None
        if raw in rules.drop:
            return None
        if raw is None:
            raise DataError(
                f"{origin}: no label: column {column!r} is empty; label or remove the row",
                "no label",
            )
        return raw

    def label(
        self,
        raw: Any,
        rules: LabelRules,
        choices: tuple[str, ...],
        keys: tuple[str, ...],
        origin: str,
    ) -> str:
        """The label as rows carry it, in one text form.

        Args:
            raw: from ``raw_label``.
            rules: the task's.
            choices: the row's own choices, if it brings any.
            keys: names that the data has for them.
            origin: ``file:line``.

        Raises:
            DataError: it is none of the task's labels.
        """
        return shown_label(raw, rules, origin)

    def labels(
        self, train: Sequence[Row], validation: Sequence[Row], rules: LabelRules, where: str
    ) -> tuple[str, ...]:
        """Label names in their fixed order; empty where there are none.

        The task's own, else those that its names lead to and then, in natural order, those of the
        training rows.

        Raises:
            DataError: too few to train on, or a validation label that training never shows.
        """
        if not self.names_labels:
            return ()
        self.require_rows(train, where)
        if rules.labels:
            return rules.labels
        seen = {label for row in train for label in self.counted(row)}
        named = tuple(dict.fromkeys(rules.names.values()))
        labels = rules.known or (*named, *sorted_labels(seen.difference(named)))
        for row in validation:
            require_known(row, self.counted(row), labels)
        return labels

    def require_rows(self, rows: Sequence[Row], where: str) -> None:
        """Refuse rows that no expert of this kind can be trained on, before they are split.

        Raises:
            DataError: what is wrong with them.
        """
        if self.names_labels and len({row.label for row in rows}) < 2:
            raise DataError(
                f"{where}:1: all training rows have the label {rows[0].label!r}; "
                "there is nothing to tell apart"
            )

    def unlike(self, rows: Sequence[Row]) -> Iterable[DataError]:
        """What is wrong with rows of one source, of all its splits, that do not fit the others."""
        return ()

    def classes(self, row: Row) -> Iterable[str | None]:
        """The classes of a row of which each must keep a training row when rows are split."""
        return self.counted(row) if self.names_labels else (None,)

    def counted(self, row: Row) -> Collection[str]:
        """The labels of a row, for counts."""
        return () if row.label is None else (row.label,)

    def majority(self, rows: Sequence[Row]) -> float | None:
        """Share of the most frequent answer; ``None`` where no answer repeats."""
        return Counter(row.label for row in rows).most_common(1)[0][1] / len(rows)

    def values(self, rows: Sequence[Row]) -> dict[str, float]:
        """``least``, ``mean`` and ``most`` of labels that are numbers, else nothing."""
        return {}

    def remarks(self, rows: Iterable[Row]) -> tuple[str, ...]:
        """What is odd about labels and yet no reason to refuse them, as sentences."""
        return ()

    # -- targets and training -----------------------------------------------------------------

    def target(self, row: Row, places: Mapping[str, int]) -> Target | None:
        """What training and evaluation compare with; ``None`` for a row without a label.

        Args:
            row: the row.
            places: label name to its place.

        Raises:
            DataError: a label that is not among them.
        """
        return None if row.label is None else place_of(self.truth(row), places, row)

    def truth(self, row: Row) -> str:
        """The label that answers to a labelled row are held against."""
        return row.label or ""

    def first_places(self, row: Row) -> tuple[int, ...]:
        """Per choice of a row the place of the first that is one with it; empty: all differ."""
        return ()

    def target_array(self, targets: Sequence[Target]) -> Ints | Floats:
        """Targets of rows as they are stored."""
        return np.asarray(np.array(targets, dtype=np.float32), dtype=np.int32)

    def outputs(self, labels: Sequence[str]) -> int:
        """Outputs of the head for one sequence."""
        return len(labels)

    @abstractmethod
    def objective(
        self, labels: Sequence[str], targets: Sequence[Target], *, balance: bool = False
    ) -> Objective:
        """What an expert with these training targets is trained for.

        Args:
            labels: in head order.
            targets: of the training rows.
            balance: weigh rare classes up.
        """

    # -- evaluation and answers -------------------------------------------------------------

    def outcome(self, predictions: Predictions) -> Outcome:
        """What stored predictions came to."""
        return Counted(np.asarray(chosen(predictions.logits) == predictions.targets))

    def metrics(self, predictions: Predictions) -> dict[str, Any]:
        """The figures of one evaluation, by name, for plain JSON.

        ``n``, ``accuracy`` and ``majority`` are among them, and unless ``majority`` is ``None``
        ``p_beats_majority`` too.
        """
        return against_majority(
            self.outcome(predictions), predictions.targets, predictions.clusters
        )

    def headline(self, metrics: Mapping[str, Any]) -> tuple[str, float | None]:
        """The one figure that lists show: its name and value."""
        return "accuracy", metrics.get("accuracy")

    def beside(self, metrics: Mapping[str, Any]) -> str:
        """Further figures worth a line, in words; empty without."""
        return ""

    def same(
        self,
        before: Floats,
        now: Floats,
        thresholds: Floats | None,
    ) -> tuple[Bools, Bools]:
        """Compare answers of the same rows at two times.

        Args:
            before: ``[rows, width]`` logits.
            now: the same later.
            thresholds: those of the expert.

        Returns:
            ``[rows]`` whether the answers are the same, and ``[rows]`` whether, where they are
            not, they were so near to each other that other arithmetic may have swapped them.
        """
        top = -np.sort(-before, axis=1)[:, :2]
        near = top[:, 0] - top[:, -1] < TOLERANCE
        return chosen(before) == chosen(now), near & (before.shape[1] > 1)

    def alike(self, before: Predictions, now: Predictions) -> tuple[Bools, Bools]:
        """As ``same``, of all that is stored of the rows."""
        return self.same(before.logits, now.logits, before.thresholds)

    def of_written(self, text: str, row: Row) -> Answer:
        """An expert's answer to one row, where the kind writes."""
        return Answer(text, {}, label_text(text) if text else "(nothing)", written=text)

    def answer(
        self, logits: Tensor, row: Row, labels: tuple[str, ...], thresholds: Tensor | None
    ) -> Answer:
        """An expert's answer to one row.

        Args:
            logits: ``[width]``; what lies beyond the row's own outputs is left alone.
            row: the row.
            labels: the expert's.
            thresholds: the expert's, where its kind has them.
        """
        scores = probabilities(logits[: self.outputs(labels)].cpu().numpy())
        return Answer.of_scores(dict(zip(labels, scores.tolist(), strict=True)))

    def sureness(self, logits: Tensor) -> Tensor:
        """How sure an expert is of its answers: ``-log(1 - p)`` of the answer's probability.

        Args:
            logits: ``[rows, width]``, ``-inf`` beyond a row's own outputs.

        Returns:
            ``[rows]`` float64; infinite where there was nothing to choose.
        """
        import torch

        ordered = logits.double().sort(dim=1, descending=True).values
        every, others = torch.logsumexp(ordered, 1), torch.logsumexp(ordered[:, 1:], 1)
        return every - others

    def is_right(self, label: str, answer: Answer) -> bool:
        """Whether the answer is what the row's ``truth`` says."""
        return answer.label == label

    def outcome_of(self, labels: Sequence[str], answers: Sequence[Answer]) -> Outcome:
        """What answers to rows came to.

        Args:
            labels: each row's ``truth``.
            answers: the expert's, also to rows that went elsewhere.
        """
        return Counted(
            np.array(
                [
                    self.is_right(label, answer)
                    for label, answer in zip(labels, answers, strict=True)
                ],
                dtype=bool,
            )
        )

    def per_label(
        self, labels: Sequence[str], answers: Sequence[Answer]
    ) -> dict[str, dict[str, int]]:
        """Label to its rows ``n`` and how many of them were ``right``; empty without names."""
        if not self.names_labels:
            return {}
        return per_label_counts(
            (label, self.is_right(label, answer))
            for label, answer in zip(labels, answers, strict=True)
        )


def per_label_counts(
    pairs: Iterable[tuple[str, bool]],
) -> dict[str, dict[str, int]]:
    """``n`` and ``right`` of each label, by name."""
    counts: dict[str, dict[str, int]] = {}
    for label, right in pairs:
        entry = counts.setdefault(label, {"n": 0, "right": 0})
        entry["n"] += 1
        entry["right"] += right
    return dict(sorted(counts.items()))
