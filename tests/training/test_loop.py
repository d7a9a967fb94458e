"""The loop minimises, follows its schedule, and reports."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from expertbank.errors import TrainingError
from expertbank.records import ProgressEvent
from expertbank.training.loop import Meter, adamw, cosine_with_warmup, optimise


def test_the_rate_rises_linearly_to_its_peak_and_falls_towards_zero() -> None:
    rates = [cosine_with_warmup(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize("total", [1, 2, 3])
def test_few_steps_still_have_rates(total: int) -> None:
    rates = [cosine_with_warmup(step, total, 0.06) for step in range(total)]
    assert rates[0] == 1
    assert all(0 <= rate <= 1 for rate in rates)


def run(loss_of, parameter: Tensor, steps: int, epochs: int = 1) -> tuple[list[int], Meter]:
    def gradient(positions: Sequence[int]) -> tuple[float, int]:
        loss = loss_of()
        loss.backward()
        return float(loss.detach()), 3

    meter = Meter("test", steps * epochs, lambda event: None)
    plans = [[(0,)] * steps for _ in range(epochs)]
    optimiser = adamw([([parameter], 0.1)], 0.0)
    taken = optimise(optimiser, plans, gradient, warmup=0.1, meter=meter)
    return [step.epoch for step in taken if step.ends_epoch], meter


def test_a_loss_is_minimised_epoch_after_epoch() -> None:
    parameter = torch.tensor([3.0, -2.0], requires_grad=True)
    seen, meter = run(lambda: (parameter - 1).pow(2).sum(), parameter, 100, epochs=2)
    assert seen == [0, 1]
    assert (meter.done, meter.tokens) == (200, 600)
    torch.testing.assert_close(parameter.detach(), torch.ones(2), atol=0.1, rtol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_stops_before_its_step_is_taken(bad: float) -> None:
    parameter = torch.tensor([3.0], requires_grad=True)
    with pytest.raises(TrainingError, match="step 1 of 5"):
        run(lambda: parameter.sum() * bad, parameter, 5)
    assert parameter.item() == 3.0


def test_an_exploding_gradient_is_clipped() -> None:
    parameter = torch.tensor([1.0], requires_grad=True)
    run(lambda: (parameter * 1e30).sum(), parameter, 3)
    assert math.isfinite(parameter.item())
    assert parameter.item() < 0.9, "unclipped, Adam's squares overflow and nothing moves"


def test_the_meter_tells_the_first_and_the_last_but_not_everything() -> None:
    events: list[ProgressEvent] = []
    meter = Meter("test", 10_000, events.append)
    for _ in range(10_000):
        meter.advance(1, 2)
    assert events[0].done == 1
    assert (events[-1].done, events[-1].total) == (10_000, 10_000)
    assert len(events) < 1_000
    assert events[-1].seconds_left == 0
    assert "tokens/s" in events[-1].detail
