"""Intervals of differences between answers to the same rows, for the benchmarks of accuracy.

95% of the pigeonhole bootstrap (Owen, Annals of Applied Statistics 2007), which draws a task's rows
and its seeds independently with replacement and keeps all answers of a row and seed together; it is
conservative. With one seed it knows nothing of others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 4000


def share(right: str) -> float:
    """Share of ones."""
    return right.count("1") / len(right)


def bits(right: Sequence[str]) -> np.ndarray:
    """``[seeds, rows]`` of a text of ones and zeros a seed."""
    return np.array([[int(one) for one in text] for text in right], dtype=float)


def pigeonhole(differences: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Bootstrap means of ``differences [seeds, rows]``, both axes drawn independently."""
    seeds, rows = differences.shape
    by_seed = generator.multinomial(seeds, np.full(seeds, 1 / seeds), DRAWS) / seeds
    by_row = generator.multinomial(rows, np.full(rows, 1 / rows), DRAWS) / rows
    return np.einsum("bs,sr,br->b", by_seed, differences, by_row, optimize=True)


def interval(
    differences: Sequence[np.ndarray], generator: np.random.Generator
) -> tuple[float, float]:
    """Ends of the middle 95% for the mean over tasks.

    Args:
        differences: ``[seeds, rows]`` of each task.
        generator: draws seeds and rows.
    """
    draws = np.mean([pigeonhole(one, generator) for one in differences], axis=0)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)
