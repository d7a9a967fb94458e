"""What an expert says of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from expertbank.kinds.labels import label_text


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
