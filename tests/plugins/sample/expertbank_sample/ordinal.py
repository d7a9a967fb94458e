"""A kind of task: labels in an order, such as bad < fine < good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from expertbank import Row
from expertbank.kinds import TOLERANCE, Answer, Counted, Kind, Objective, Predictions

if TYPE_CHECKING:  # reading data needs no torch
    from torch import Tensor

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class Ordinal(Kind):
    """The head says of every label but the last whether the answer lies above it.

    The order is that of the labels in a task file, else the natural one (2 before 10).
    """

    name = "ordinal"

    def outputs(self, labels: Sequence[str]) -> int:
        return len(labels) - 1

    def objective(self, labels: Sequence[str], targets: object, *, balance: bool = False) -> Above:
        return Above(len(labels) - 1)

    def outcome(self, predictions: Predictions) -> Counted:
        return Counted(ranks(predictions.logits) == predictions.targets)

    def same(self, before: Floats, now: Floats, thresholds: object) -> tuple[Bools, Bools]:
        crossed = (before > 0) != (now > 0)
        return ranks(before) == ranks(now), ~(crossed & (np.abs(before) >= TOLERANCE)).any(1)

    def answer(
        self, logits: Tensor, row: Row, labels: tuple[str, ...], thresholds: object
    ) -> Answer:
        own = logits[: len(labels) - 1]
        above = [1.0, *own.sigmoid().cummin(0).values.tolist(), 0.0]
        scores = {label: above[i] - above[i + 1] for i, label in enumerate(labels)}
        label = labels[int((own > 0).sum())]
        return Answer(label, scores, label)

    def metrics(self, predictions: Predictions) -> dict[str, Any]:
        off = np.abs(ranks(predictions.logits) - predictions.targets)
        return {**super().metrics(predictions), "mean_rank_error": float(off.mean())}

    def beside(self, metrics: Mapping[str, Any]) -> str:
        return f"mean rank error {metrics['mean_rank_error']:.3f}"


ORDINAL = Ordinal()


class Above(Objective):
    """Binary cross-entropy of whether a row's rank lies above each of the first ``places``."""

    def __init__(self, places: int) -> None:
        self.places = places

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(logits, self.above(targets))

    def start(self, features: Tensor, row_of: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        from expertbank.kinds import probe_flags

        return probe_flags(features, self.above(targets))

    def above(self, targets: Tensor) -> Tensor:
        return (targets[:, None] > targets.new_tensor(range(self.places))).float()


def ranks(logits: Floats) -> npt.NDArray[np.int32]:
    """``[rows]`` places of the labels answered."""
    return np.asarray((logits > 0).sum(1), dtype=np.int32)
