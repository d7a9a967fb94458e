"""Calibration: how far the confidence of answers is from how often they are right."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BINS = 15


def expected_calibration_error(
    confidence: npt.NDArray[np.floating],
    right: npt.NDArray[np.bool_],
    weight: npt.NDArray[np.floating] | None = None,
    bins: int = BINS,
) -> float:
    """Mean distance between confidence and accuracy over bins of equal width.

    (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 3.)

    Args:
        confidence: ``[rows]`` probabilities of the answers given, 0 to 1.
        right: ``[rows]`` whether each answer was right.
        weight: ``[rows]`` say of each row; equal if ``None``.
        bins: how many bins.
    """
    own = np.ones(len(confidence)) if weight is None else np.asarray(weight, dtype=np.float64)
    place = np.clip(np.ceil(np.asarray(confidence, np.float64) * bins).astype(int) - 1, 0, bins - 1)
    # Per bin, the weighted sum of (right - confidence): its size over all weight is the bin's part.
    gap = np.bincount(place, weights=own * (right - confidence), minlength=bins)
    return float(np.abs(gap).sum() / own.sum())
