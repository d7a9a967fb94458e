"""How training stands on the rows held out of it, and when it has nothing more to gain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


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
