"""How training stands on the rows held out of it, and when it has nothing more to gain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Score and mean loss on the held-out rows after an epoch."""

    score: float
    loss: float

    def better_than(self, other: HeldOut) -> bool:
        """Whether it scores higher, or as high at a lower loss."""
        return (self.score, -self.loss) > (other.score, -other.loss)


def fruitless(curve: Sequence[HeldOut]) -> int:
    """Epochs at the end of ``curve`` that brought neither a better score nor the lowest loss.

    A score over a hundred rows leaps about while a task is hardly learnt; its loss tells earlier
    that something is.
    """
    best, lowest, gained = HeldOut(-math.inf, math.inf), math.inf, 0
    for epoch, now in enumerate(curve):
        if now.better_than(best) or now.loss < lowest:
            gained = epoch
        best = now if now.better_than(best) else best
        lowest = min(lowest, now.loss)
    return max(0, len(curve) - 1 - gained)


@dataclass(frozen=True, slots=True)
class Best:
    """The best epoch so far: how it stands on held-out rows, its number, its tensors."""

    held_out: HeldOut
    epoch: int
    tensors: Mapping[str, Tensor]


@dataclass(slots=True)
class Course:
    """How training went so far.

    Attributes:
        patience: fruitless epochs after which it ends.
        best: what is kept, ``None`` before the first epoch was measured.
        curve: how held-out rows stood after each epoch that is done.
    """

    patience: int
    best: Best | None = None
    curve: tuple[HeldOut, ...] = ()

    @property
    def over(self) -> bool:
        """Whether patience is spent."""
        return fruitless(self.curve) >= self.patience

    def add(self, now: HeldOut, tensors: Mapping[str, Tensor], epoch: int) -> None:
        """Take in how ``epoch`` stands, and keep its tensors if it is the best."""
        if self.best is None or now.better_than(self.best.held_out):
            self.best = Best(now, epoch, tensors)
        self.curve = (*self.curve, now)
