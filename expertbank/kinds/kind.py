"""What a kind of task is: everything in which tasks differ from each other.

A kind is one object without state. It says which rows it reads, what their labels look like, how
an expert's head is trained, which figures are taken, and how an answer is formed and worded.
Nothing outside a kind's file asks for its name.

Torch is imported only inside the methods that need it, so that data can be read without.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from expertbank.evaluation.decisions import chosen, probabilities
from expertbank.evaluation.outcome import Bools, Counted, Outcome
from expertbank.evaluation.predictions import Floats, Ints, Predictions
from expertbank.evaluation.scores import against_majority
from expertbank.kinds.answer import Answer
from expertbank.kinds.labelled import Labelled
from expertbank.kinds.labels import label_text, place_of
from expertbank.kinds.objective import Objective
from expertbank.records import Row, Target

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-3
"""How near two answers must be for another machine's arithmetic to have swapped them."""


class Kind(Labelled, ABC):
    """One kind of task. Only ``name`` and ``objective`` must be given.

    What is not given is that of a row with one of the task's labels, each of which has an output
    of the head, and the highest of them is the answer. A kind that forms its answers otherwise
    gives ``outcome``, ``same`` and ``answer``, which must agree on what was answered
    (``expertbank.testing.kinds`` holds them against each other).

    A kind may have no head: the backbone's own language model ``writes`` its answers, token by
    token. Such a kind has no labels and 0 outputs; it gives ``alike`` and ``of_written`` in place
    of ``same`` and ``answer``, and what stands for logits is ``models.writing.FIGURES``.

    Attributes:
        scores_sequences: whether the head gives each of a row's sequences one score, instead of
            one sequence all of its outputs.
        writes: whether the language model writes its answers, and there is no head.
        elsewhere: whether an adapter of another program answers, whose name there is the task's
            only label: rows have no label, nothing is trained, and there is no head.
        has_thresholds: whether an expert's file holds ``head.threshold [outputs]`` beside weight
            and bias.
        answers_are_values: whether labels are numbers, of which two of one text may differ.
        snippet: Python that forms an answer from ``outputs(text, text_pair)`` and ``about``, for
            exports to other programs.
    """

    scores_sequences: ClassVar[bool] = False
    writes: ClassVar[bool] = False
    elsewhere: ClassVar[bool] = False
    has_thresholds: ClassVar[bool] = False
    answers_are_values: ClassVar[bool] = False
    snippet: ClassVar[str] = ""

    @property
    def has_head(self) -> bool:
        """Whether an expert's answers come from a head of its own."""
        return not (self.writes or self.elsewhere)

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

    def same(self, before: Floats, now: Floats, thresholds: Floats | None) -> tuple[Bools, Bools]:
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
