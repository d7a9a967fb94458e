"""Expected calibration error against its definition, bin by bin."""

from __future__ import annotations

import numpy as np
import pytest

from expertbank.evaluation.calibration import expected_calibration_error


def by_definition(confidence: np.ndarray, right: np.ndarray, bins: int) -> float:
    total = 0.0
    for place in range(bins):
        inside = (confidence > place / bins) & (confidence <= (place + 1) / bins)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            total += gap * inside.sum() / len(confidence)
    return total


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_it_is_the_mean_distance_of_confidence_and_accuracy_over_bins(bins: int) -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.001, 1, 500)
    right = rng.uniform(size=500) < confidence**2
    found = expected_calibration_error(confidence, right, bins=bins)
    assert found == pytest.approx(by_definition(confidence, right, bins), abs=1e-12)


def test_weights_count_as_repeated_rows_do() -> None:
    rng = np.random.default_rng(1)
    confidence, right = rng.uniform(0.001, 1, 60), rng.uniform(size=60) < 0.5
    times = rng.integers(1, 4, 60)
    whole = expected_calibration_error(np.repeat(confidence, times), np.repeat(right, times))
    assert expected_calibration_error(confidence, right, times) == pytest.approx(whole)


def test_certain_and_right_has_no_error_and_certain_and_wrong_has_all_of_it() -> None:
    sure = np.ones(5)
    assert expected_calibration_error(sure, sure.astype(bool)) == 0
    assert expected_calibration_error(sure, ~sure.astype(bool)) == 1
