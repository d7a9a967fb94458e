"""What regression says of values before it learns them, and of answers that are far off."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from expertbank.evaluation.predictions import Predictions
from expertbank.kinds import KINDS
from expertbank.records import Row


def remarks(*labels: str) -> tuple[str, ...]:
    return KINDS.get("regression").remarks(Row(f"text {n}", label=v) for n, v in enumerate(labels))


def test_values_that_single_precision_hardly_tells_apart_are_remarked_on() -> None:
    assert remarks("1", "2.5", "4") == ()
    assert remarks("0", "0.5") == ()
    assert remarks() == ()
    (same,) = remarks("1700000000", "1700000000")
    assert "nothing to learn" in same
    (nothing,) = remarks("0", "0")
    assert "multiply all by one number" in nothing
    assert "subtract" not in nothing
    (close,) = remarks("1000000", "1000010", "1000020")
    assert "subtract 1000010 from each" in close


@pytest.mark.parametrize("scale", [1.0, 1e19, 3e37])
def test_the_squared_error_of_large_values_is_a_number(scale: float) -> None:
    answers = np.array([[1.0], [2.0], [4.0]], dtype=np.float32) * np.float32(scale)
    targets = np.array([1.5, 2.0, 3.0], dtype=np.float32) * np.float32(scale)
    predictions = Predictions(answers, targets, tuple(f"{row:064x}" for row in range(3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = Predictions.from_bytes(predictions.to_bytes(), "test")
        found = KINDS.get("regression").metrics(read)
    assert found["mse"] == pytest.approx(1.25 / 3 * scale**2, rel=1e-5)
