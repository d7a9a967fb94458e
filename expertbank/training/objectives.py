"""What the kinds of task differ in while training: loss, score, and where the head starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.models.features import mean_by_row
from expertbank.models.heads import logits_by_row
from expertbank.records import EncodedRow, TaskKind
from expertbank.training.probe import probe_head, probe_value


class Objective(Protocol):
    """A kind's part in training one expert."""

    def logits(self, outputs: Tensor, row_of: Tensor) -> Tensor:
        """Rows' logits ``[rows, classes]`` from sequences' outputs."""
        ...

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over rows."""
        ...

    def score(self, logits: Tensor, targets: Tensor) -> float:
        """Quality of the rows' answers; higher is better. Chooses the checkpoint."""
        ...

    def start(self, features: Tensor, row_of: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """First head ``(weight [outputs, hidden], bias [outputs])`` from frozen features."""
        ...

    def finish(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The head as it is stored."""
        ...


def objective_of(
    kind: TaskKind, labels: Sequence[str], train: Sequence[EncodedRow], *, balance: bool = False
) -> Objective:
    """The objective of a kind of task; ``balance`` weighs classes by inverse frequency."""
    if kind == "multiple_choice":
        return Choices()
    if kind == "regression":
        values = torch.tensor([row.target for row in train], dtype=torch.float64)
        spread = float(values.std()) if len(values) > 1 else 0.0
        return Value(float(values.mean()), spread or 1.0)
    if not balance:
        return Classes(len(labels))
    counts = Counter(int(row.target) for row in train if row.target is not None)
    # Weights have mean 1 over the rows; a class without a row weighs nothing.
    weights = [
        len(train) / (len(counts) * counts[place]) if counts[place] else 0.0
        for place in range(len(labels))
    ]
    return Classes(len(labels), tuple(weights))


@dataclass(frozen=True, slots=True)
class Classes:
    """One of a fixed set of labels: cross-entropy over classes, weighted if asked."""

    count: int
    weights: tuple[float, ...] | None = None

    def logits(self, outputs: Tensor, row_of: Tensor) -> Tensor:
        return outputs

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        losses = F.cross_entropy(logits, targets.long(), reduction="none")
        return (losses * self._weight_of(targets)).mean()

    def score(self, logits: Tensor, targets: Tensor) -> float:
        right = (logits.argmax(1) == targets.long()).cpu().double()
        return float((right * self._weight_of(targets).cpu()).mean())

    def _weight_of(self, targets: Tensor) -> Tensor:
        if self.weights is None:
            return torch.ones_like(targets)
        return torch.tensor(self.weights, device=targets.device)[targets.long()]

    def start(self, features: Tensor, row_of: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return probe_head(features, targets.long(), self.count)

    def finish(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return weight, bias


@dataclass(frozen=True, slots=True)
class Choices:
    """One of a row's own choices: a score each, cross-entropy over the row's choices."""

    def logits(self, outputs: Tensor, row_of: Tensor) -> Tensor:
        every = torch.ones_like(row_of, dtype=torch.bool)
        return logits_by_row(outputs, row_of, every)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets.long())

    def score(self, logits: Tensor, targets: Tensor) -> float:
        return float((logits.argmax(1) == targets.long()).cpu().double().mean())

    def start(self, features: Tensor, row_of: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        # The softmax over a row's choices does not see what they share: take it out first.
        own = features - mean_by_row(features, row_of)[row_of]
        counts = torch.bincount(row_of)
        first = counts.cumsum(0) - counts
        right = torch.zeros(len(features), dtype=torch.long)
        right[first + targets.long()] = 1
        weight, _ = probe_head(own, right, 2)
        return weight[1:] - weight[:1], torch.zeros(1)

    def finish(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return weight, bias


@dataclass(frozen=True, slots=True)
class Value:
    """A number: squared error in units of the training values' standard deviation."""

    mean: float
    spread: float

    def logits(self, outputs: Tensor, row_of: Tensor) -> Tensor:
        return outputs

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(logits[:, 0], self._standard(targets))

    def score(self, logits: Tensor, targets: Tensor) -> float:
        return -float(self.loss(logits, targets))

    def start(self, features: Tensor, row_of: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return probe_value(features, self._standard(targets))

    def finish(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return weight * self.spread, bias * self.spread + self.mean

    def _standard(self, targets: Tensor) -> Tensor:
        return (targets - self.mean) / self.spread
