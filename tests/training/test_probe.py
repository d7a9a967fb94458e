"""The head starts as the ridge fit that predicts rows best that it did not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from expertbank.kinds.probe import SCALES, STRENGTHS, probe_head, probe_value


def data(rows: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(rows) % classes
    centres = torch.randn(classes, 6, generator=generator)
    return centres[targets] + torch.randn(rows, 6, generator=generator), targets


def ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Ridge with a free intercept, by least squares on rows and penalty rows together."""
    mean, level = x.mean(0), y.mean(0)
    left = np.concatenate([x - mean, np.sqrt(penalty) * np.eye(x.shape[1])])
    right = np.concatenate([y - level, np.zeros((x.shape[1], y.shape[1]))])
    weight = np.linalg.lstsq(left, right, rcond=None)[0]
    return weight, level - mean @ weight


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("rows", "classes"), [(24, 2), (31, 3), (6, 2), (9, 3)])
def test_it_is_the_best_of_all_settings_when_every_row_is_left_out_for_real(
    rows: int, classes: int, seed: int
) -> None:
    features, targets = data(rows, classes, seed)
    x, y = features.double().numpy(), np.eye(classes)[targets.numpy()]
    unit = ((x - x.mean(0)) ** 2).sum() / x.shape[1]
    losses: dict[tuple[float, float], float] = {}
    for strength in STRENGTHS:
        left_out = np.empty_like(y)
        for row in range(rows):
            others = np.arange(rows) != row
            weight, bias = ridge(x[others], y[others], strength * unit)
            left_out[row] = x[row] @ weight + bias
        for scale in SCALES:
            logits = left_out * scale
            chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            losses[strength, scale] = -np.log(chances[y == 1]).mean()
    strength, scale = min(losses, key=losses.__getitem__)
    weight, bias = ridge(x, y, strength * unit)
    found_weight, found_bias = probe_head(features, targets, classes)
    np.testing.assert_allclose(found_weight.numpy().T, weight * scale, rtol=1e-4, atol=1e-5)
    ours = found_bias.double().numpy()  # logits may differ by a constant
    np.testing.assert_allclose(
        ours - ours.mean(), scale * (bias - bias.mean()), rtol=1e-4, atol=1e-4
    )


def test_a_separable_task_is_solved_at_once() -> None:
    features, targets = data(300, 3)
    weight, bias = probe_head(features * 3, targets, 3)
    assert ((features * 3 @ weight.T + bias).argmax(1) == targets).float().mean() > 0.8
    assert (weight.dtype, weight.shape, bias.shape) == (torch.float32, (3, 6), (3,))


def test_a_class_without_rows_is_never_the_answer() -> None:
    features, targets = data(60, 2)
    weight, bias = probe_head(features, targets, 3)
    assert (features @ weight.T + bias).argmax(1).max() <= 1


def test_one_class_and_equal_rows_give_finite_numbers() -> None:
    weight, bias = probe_head(torch.ones(4, 6), torch.zeros(4, dtype=torch.long), 2)
    assert torch.isfinite(weight).all()
    assert bias[0] > bias[1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rows", [30, 12, 7])
def test_a_value_gets_the_best_of_all_strengths_when_every_row_is_left_out_for_real(
    rows: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 6, generator=generator) * 2 + 3
    noise = torch.randn(rows, generator=generator) * (seed + 1) / 2
    targets = features @ torch.randn(6, generator=generator) + noise + 5
    x, y = features.double().numpy(), targets.double().numpy()[:, None]
    unit = ((x - x.mean(0)) ** 2).sum() / x.shape[1]
    errors: dict[float, float] = {}
    for strength in STRENGTHS:
        left_out = np.empty_like(y)
        for row in range(rows):
            others = np.arange(rows) != row
            weight, bias = ridge(x[others], y[others], strength * unit)
            left_out[row] = x[row] @ weight + bias
        errors[strength] = float(np.square(left_out - y).mean())
    strength = min(errors, key=errors.__getitem__)
    weight, bias = ridge(x, y, strength * unit)
    found_weight, found_bias = probe_value(features, targets)
    np.testing.assert_allclose(found_weight.numpy().T, weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found_bias.numpy(), bias, rtol=1e-4, atol=1e-4)
    assert (found_weight.dtype, found_weight.shape) == (torch.float32, (1, 6))


def test_the_noise_decides_the_strength_of_a_values_fit() -> None:
    generator = torch.Generator().manual_seed(0)
    features, noise = torch.randn(60, 6, generator=generator), torch.randn(60, generator=generator)
    direction = torch.ones(6)
    clean, _ = probe_value(features, features @ direction)
    noisy, _ = probe_value(features, features @ direction / 50 + noise)
    assert (clean[0] - direction).abs().max() < 0.1
    assert noisy.norm() < 0.5


def test_equal_values_and_equal_rows_give_finite_numbers() -> None:
    weight, bias = probe_value(torch.ones(4, 6), torch.full((4,), 2.5))
    assert torch.equal(weight, torch.zeros(1, 6))
    assert float(bias) == pytest.approx(2.5)
