"""One of a fixed set of labels: cross-entropy over classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expertbank.errors import DataError
from expertbank.evaluation.predictions import Predictions
from expertbank.evaluation.scores import against_majority, confusion_matrix, macro_f1, matthews
from expertbank.kinds.kind import Answer, Kind, per_label_counts
from expertbank.kinds.labels import (
    alike_remarks,
    place_of,
    require_known,
    shown_label,
    sorted_labels,
)
from expertbank.kinds.rules import LabelRules
from expertbank.records import Row, Target
from expertbank.texts import is_number

if TYPE_CHECKING:
    from torch import Tensor

_MANY_NUMBERS = 20


class Classification(Kind):
    """A text, or two, and one of the task's labels."""

    name = "classification"
    names_labels = True
    snippet = """
def answer(text, text_pair=None):
    probabilities = outputs(text, text_pair).softmax(-1).tolist()
    return dict(zip(about["labels"], probabilities))


print(answer("your text"))
"""

    def label(
        self,
        raw: Any,
        rules: LabelRules,
        choices: tuple[str, ...],
        keys: tuple[str, ...],
        origin: str,
    ) -> str:
        """The label's shown name."""
        return shown_label(raw, rules, origin)

    def labels(
        self, train: Sequence[Row], validation: Sequence[Row], rules: LabelRules, where: str
    ) -> tuple[str, ...]:
        """The task's own, else those of the training rows in natural order."""
        self.require_rows(train, where)
        if rules.labels:
            return rules.labels
        seen = {row.label for row in train if row.label is not None}
        labels = rules.known or tuple(sorted_labels(seen))
        for row in validation:
            require_known(row, self.counted(row), labels)
        return labels

    def require_rows(self, rows: Sequence[Row], where: str) -> None:
        """At least two labels."""
        seen = {row.label for row in rows}
        if len(seen) < 2:
            raise DataError(
                f"{where}:1: all training rows have the label {seen.pop()!r}; "
                "a classifier needs at least two labels"
            )

    def classes(self, row: Row) -> Iterable[str | None]:
        """The row's label."""
        return (row.label,)

    def remarks(self, rows: Iterable[Row]) -> tuple[str, ...]:
        """Labels that differ only in case, and labels that are all numbers."""
        counts = Counter(row.label for row in rows if row.label is not None)
        remarks = alike_remarks(counts)
        if len(counts) > _MANY_NUMBERS and all(map(is_number, counts)):
            remarks.append(
                f"{len(counts)} labels, all of them numbers: for a task of values write "
                "kind: regression in a task file"
            )
        return tuple(remarks)

    def target(self, row: Row, places: Mapping[str, int]) -> Target | None:
        """The class's place."""
        return None if row.label is None else place_of(row.label, places, row)

    def outputs(self, labels: Sequence[str]) -> int:
        """One a class."""
        return len(labels)

    def objective(
        self, labels: Sequence[str], targets: Sequence[Target], *, balance: bool = False
    ) -> Classes:
        """Cross-entropy, weighted by inverse frequency if asked."""
        if not balance:
            return Classes(len(labels))
        counts = Counter(map(int, targets))  # type: ignore[arg-type]  # a class has one place
        # Weights have mean 1 over the rows; a class without a row weighs nothing.
        weights = [
            len(targets) / (len(counts) * counts[place]) if counts[place] else 0.0
            for place in range(len(labels))
        ]
        return Classes(len(labels), tuple(weights))

    def metrics(self, predictions: Predictions) -> dict[str, Any]:
        """Accuracy against the majority class, macro-F1 and Matthews."""
        confusion = confusion_matrix(predictions)
        return {
            **against_majority(self.outcome(predictions), predictions.targets),
            "macro_f1": macro_f1(confusion),
            "matthews": matthews(confusion),
        }

    def beside(self, metrics: Mapping[str, Any]) -> str:
        """What accuracy hides where classes are of unequal size."""
        if "macro_f1" not in metrics:
            return ""
        return f"macro-F1 {metrics['macro_f1']:.3f}, Matthews {metrics['matthews']:.3f}"

    def answer(
        self, logits: Tensor, row: Row, labels: tuple[str, ...], thresholds: Tensor | None
    ) -> Answer:
        """The class of the highest probability."""
        own = logits[: len(labels)]
        best = labels[int(own.argmax())]
        return Answer(best, dict(zip(labels, own.softmax(0).tolist(), strict=True)), best)

    def is_right(self, label: str, answer: Answer) -> bool:
        """The same label."""
        return answer.label == label

    def per_label(
        self, labels: Sequence[str], answers: Sequence[Answer]
    ) -> dict[str, dict[str, int]]:
        """Rows of each label, and how many were answered with it."""
        return per_label_counts(
            (label, self.is_right(label, answer))
            for label, answer in zip(labels, answers, strict=True)
        )


CLASSIFICATION = Classification()


@dataclass(frozen=True, slots=True)
class Classes:
    """Cross-entropy over classes, weighted if asked."""

    count: int
    weights: tuple[float, ...] | None = None

    def logits(self, outputs: Tensor, row_of: Tensor) -> Tensor:
        """A row is one sequence."""
        return outputs

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean weighted cross-entropy."""
        from torch.nn.functional import cross_entropy

        losses = cross_entropy(logits, targets.long(), reduction="none")
        return (losses * self._weight_of(targets)).mean()

    def score(self, logits: Tensor, targets: Tensor) -> float:
        """Weighted share of rows that are right."""
        right = (logits.argmax(1) == targets.long()).cpu().double()
        return float((right * self._weight_of(targets).cpu()).mean())

    def _weight_of(self, targets: Tensor) -> Tensor:
        if self.weights is None:
            return targets.new_ones(len(targets))
        return targets.new_tensor(self.weights)[targets.long()]

    def start(self, features: Tensor, row_of: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The ridge classifier of the frozen features."""
        from expertbank.kinds.probe import probe_head

        return probe_head(features, targets.long(), self.count)

    def finish(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The head as it is."""
        return weight, bias

    def thresholds(self, logits: Tensor, targets: Tensor) -> None:
        """Classes are compared with each other."""
        return
