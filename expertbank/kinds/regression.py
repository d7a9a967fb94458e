"""A number: squared error in units of the training values' standard deviation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from expertbank.evaluation.outcome import Bools, Correlated, Outcome, pearson
from expertbank.evaluation.predictions import Floats, Predictions
from expertbank.kinds.answer import Answer
from expertbank.kinds.kind import TOLERANCE, Kind
from expertbank.kinds.objective import Objective
from expertbank.kinds.rules import RawLabel
from expertbank.records import Row, Target
from expertbank.texts import number_text

if TYPE_CHECKING:
    from torch import Tensor


HARDLY = 1e-3
"""Share of their mean below which the spread of values loses digits: float32 has seven."""


class Regression(Kind):
    """A text, or two, and a number."""

    name = "regression"
    names_labels = False
    answers_are_values = True
    label_word = "value"
    snippet = """
def answer(text, text_pair=None):
    return outputs(text, text_pair)[0].item()


print(answer("your text", "your second text"))
"""

    def label(self, raw: RawLabel) -> str:
        """The number in its shortest form."""
        return number_text(raw.value, raw.origin)

    def counted(self, row: Row) -> Collection[str]:
        """Numbers are not counted."""
        return ()

    def remarks(self, rows: Iterable[Row]) -> tuple[str, ...]:
        """Values that are all one, and those that single precision hardly tells apart."""
        values = [float(row.label) for row in rows if row.label is not None]
        if len(values) < 2:
            return ()
        least, most, middle = min(values), max(values), abs(fmean(values))
        if least == most == 0:
            return (
                "all values are 0 in single precision, so there is nothing to learn; if they "
                "differ, they are too small for it: multiply all by one number, and divide "
                "answers by it",
            )
        if least == most:
            return (
                f"all values are {least:g} in single precision, so there is nothing to learn; if "
                "they differ, subtract a number from each, and add it to answers",
            )
        if most - least < middle * HARDLY:
            return (
                f"values from {least:g} to {most:g} lie so close together that single precision "
                f"hardly tells them apart; subtract {middle:.0f} from each, and add it to answers",
            )
        return ()

    def majority(self, rows: Sequence[Row]) -> None:
        """No number is an answer for most rows."""
        return

    def values(self, rows: Sequence[Row]) -> dict[str, float]:
        """Least, mean and most target."""
        values = [float(row.label) for row in rows if row.label is not None]
        return {"least": min(values), "mean": fmean(values), "most": max(values)}

    def target(self, row: Row, places: Mapping[str, int]) -> Target | None:
        """The number."""
        return None if row.label is None else float(row.label)

    def target_array(self, targets: Sequence[Target]) -> Floats:
        """``[rows]`` float32."""
        return np.asarray(np.array(targets, dtype=np.float32))

    def outputs(self, labels: Sequence[str]) -> int:
        """The number."""
        return 1

    def objective(
        self, labels: Sequence[str], targets: Sequence[Target], *, balance: bool = False
    ) -> Value:
        """Squared error of standardised values; there are no classes to balance."""
        import torch

        values = torch.tensor(targets, dtype=torch.float64)
        spread = float(values.std()) if len(values) > 1 else 0.0
        return Value(float(values.mean()), spread or 1.0)

    def outcome(self, predictions: Predictions) -> Outcome:
        """Values and their targets."""
        return Correlated(np.asarray(predictions.logits[:, 0]), predictions.targets)

    def metrics(self, predictions: Predictions) -> dict[str, Any]:
        """Pearson's and Spearman's correlation and the mean squared error."""
        from scipy.stats import spearmanr

        answers, targets = predictions.logits[:, 0], predictions.targets
        linear = pearson(answers, targets)
        return {
            "accuracy": None,
            "n": len(targets),
            "majority": None,
            "pearson": linear,
            "spearman": None if linear is None else float(spearmanr(answers, targets).statistic),
            "mse": float(np.square(answers.astype(np.float64) - targets).mean()),
        }

    def headline(self, metrics: Mapping[str, Any]) -> tuple[str, float | None]:
        """Pearson's correlation."""
        return "Pearson", metrics.get("pearson")

    def same(self, before: Floats, now: Floats, thresholds: Floats | None) -> tuple[Bools, Bools]:
        """Equal numbers, and numbers that differ in their last digits."""
        old, new = before[:, 0], now[:, 0]
        return old == new, np.abs(old - new) < TOLERANCE * (1 + np.abs(old))

    def answer(
        self, logits: Tensor, row: Row, labels: tuple[str, ...], thresholds: Tensor | None
    ) -> Answer:
        """The number."""
        value = float(logits[0])
        return Answer(value, {}, value_text(value))

    def is_right(self, label: str, answer: Answer) -> bool:
        """The same number; for counts nobody asks of numbers."""
        return answer.label == float(label)

    def outcome_of(self, labels: Sequence[str], answers: Sequence[Answer]) -> Outcome:
        """Values and true values."""
        values = [float(answer.label or 0.0) for answer in answers]
        return Correlated(np.array(values), np.array([float(label) for label in labels]))


REGRESSION = Regression()


def value_text(value: float) -> str:
    """A value with three decimals, of a small one its first three digits; no minus before zero."""
    if value == 0:
        return "0.000"
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Value(Objective):
    """Squared error in units of the training values' standard deviation."""

    mean: float
    spread: float

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error of standardised values."""
        from torch.nn.functional import mse_loss

        return mse_loss(logits[:, 0], self._standard(targets))

    def start(self, features: Tensor, row_of: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Ridge regression on the frozen features."""
        from expertbank.kinds.probe import probe_value

        return probe_value(features, self._standard(targets))

    def finish(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The head in the values' own units."""
        return weight * self.spread, bias * self.spread + self.mean

    def _standard(self, targets: Tensor) -> Tensor:
        return (targets - self.mean) / self.spread
