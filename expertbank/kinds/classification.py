"""One of a fixed set of labels: cross-entropy over classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expertbank.evaluation.predictions import Predictions
from expertbank.evaluation.scores import against_majority, confusion_matrix, macro_f1, matthews
from expertbank.kinds.kind import Kind
from expertbank.kinds.labels import alike_remarks, several_remarks
from expertbank.kinds.objective import Objective
from expertbank.records import Row, Target
from expertbank.texts import is_number

if TYPE_CHECKING:
    from torch import Tensor

_MANY_NUMBERS = 20


class Classification(Kind):
    """A text, or two, and one of the task's labels."""

    name = "classification"
    snippet = """
def answer(text, text_pair=None):
    probabilities = outputs(text, text_pair).softmax(-1).tolist()
    return dict(zip(about["labels"], probabilities))


print(answer("your text"))
"""

    def remarks(self, rows: Iterable[Row]) -> tuple[str, ...]:
        """Labels that look the same, that look like several, and that are all numbers."""
        counts = Counter(row.label for row in rows if row.label is not None)
        remarks = alike_remarks(counts) + several_remarks(counts)
        if len(counts) > _MANY_NUMBERS and all(map(is_number, counts)):
            remarks.append(
                f"{len(counts)} labels, all of them numbers: for a task of values write "
                "kind: regression in a task file"
            )
        return tuple(remarks)

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
            **against_majority(
                self.outcome(predictions), predictions.targets, predictions.clusters
            ),
            "macro_f1": macro_f1(confusion),
            "matthews": matthews(confusion),
        }

    def beside(self, metrics: Mapping[str, Any]) -> str:
        """What accuracy hides where classes are of unequal size."""
        if "macro_f1" not in metrics:
            return ""
        return f"macro-F1 {metrics['macro_f1']:.3f}, Matthews {metrics['matthews']:.3f}"


CLASSIFICATION = Classification()


@dataclass(frozen=True, slots=True)
class Classes(Objective):
    """Cross-entropy over classes, weighted if asked."""

    count: int
    weights: tuple[float, ...] | None = None

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
