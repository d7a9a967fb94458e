"""From logits to scores, and from scores to what is answered: one place for all that is shown.

An answer is decided from the very scores that stand beside it, and stored predictions are counted
in the same way, so that a label cannot contradict its scores. All in double precision: single
precision rounds different logits to one probability. The order of two logits is kept unless they
are nearer than 1e-15; then they tie, and of equal scores the first decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.generic]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def probabilities(logits: Numbers) -> Doubles:
    """Softmax over the last axis: ``[..., width]``; ``-inf`` has probability 0."""
    values = np.asarray(logits, dtype=np.float64)
    powers: Doubles = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def likelihoods(logits: Numbers) -> Doubles:
    """Probability of each output by itself, whatever the others are."""
    values = np.asarray(logits, dtype=np.float64)
    powers = np.exp(-np.abs(values))  # never above 1, so that nothing overflows
    return np.where(values >= 0, 1.0, powers) / (1.0 + powers)


def chosen(logits: Numbers) -> npt.NDArray[np.int64]:
    """``[rows]`` place of the most probable output; of equally probable ones the first."""
    return np.asarray(probabilities(logits).argmax(-1))


def merged(logits: Numbers, first: Sequence[int]) -> npt.NDArray[np.float32]:
    """Logits ``[width]`` of one row in which equal choices are one, at the first of them.

    It gets the sum of their probabilities; the others get ``-inf``. Merging twice changes nothing.

    Args:
        logits: of the row's choices, and whatever lies beyond them.
        first: per choice the place of the first choice of the same text; empty: all differ.
    """
    found = np.array(logits, dtype=np.float32)
    sums = found.astype(np.float64)
    for place, same in enumerate(first):
        if place != same:
            sums[same], sums[place] = np.logaddexp(sums[same], sums[place]), -np.inf
    changed = [place for place, same in enumerate(first) if first.count(same) > 1]
    found[changed] = sums[changed]
    return found


def holding(logits: Numbers, thresholds: Numbers | None) -> Bools:
    """``[rows, labels]`` which outputs are at least as probable as their threshold, or one half."""
    edges: Any = 0.5 if thresholds is None else likelihoods(thresholds)
    return np.asarray(likelihoods(logits) >= edges)
