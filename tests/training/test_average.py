"""What is kept of a training is the mean of its last weights, as defined, and goes on as it was."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import job_for

from expertbank.errors import IntegrityError
from expertbank.training import expert
from expertbank.training.average import SLOPE, RunningMean
from expertbank.training.checkpoint import Checkpoint
from expertbank.training.expert import job_digest, train_expert


def weights(steps: int, most: int) -> np.ndarray:
    """What each of ``steps`` steps counts, in float64.

    Until the bound holds it is the binomial coefficient of the step's number, which the recursion
    of polynomial decay comes to; from then on each later step takes its part from all before it.
    """
    free = max(t for t in range(1, steps + 1) if (SLOPE + 1) / (t + SLOPE) >= 1 / most)
    found = np.array([comb(step + SLOPE, SLOPE) for step in range(free)], dtype=np.float64)
    found /= found.sum()
    for _ in range(steps - free):
        found = np.append(found * (1 - 1 / most), 1 / most)
    return found


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_the_mean_is_that_of_polynomial_decay_and_beyond_the_bound_exponential(
    steps: int, most: int, seed: int
) -> None:
    walk = torch.randn(steps, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    parameter = torch.full((3,), 99.0, dtype=torch.float64, requires_grad=True)
    mean = RunningMean({"own": parameter}, most)
    for now in walk.cumsum(0):
        with torch.no_grad():
            parameter.copy_(now)
        mean.update()
    wanted = weights(steps, most) @ walk.cumsum(0).numpy()
    with mean.in_place():
        np.testing.assert_allclose(parameter.detach().numpy(), wanted, atol=1e-9, rtol=1e-9)
    assert torch.equal(parameter, walk.cumsum(0)[-1])


def test_a_mean_over_one_step_is_that_step_to_the_bit() -> None:
    parameter = torch.tensor([1.0])
    mean = RunningMean({"own": parameter}, 1)
    for value in (0.1, 1e30, 0.3):
        parameter.fill_(value)
        mean.update()
        assert torch.equal(mean.state()["own"], parameter)


def test_an_error_inside_leaves_the_weights_of_the_last_step() -> None:
    parameter = torch.tensor([1.0])
    mean = RunningMean({"own": parameter}, 50)
    mean.update()
    parameter.fill_(2.0)

    def spoiled() -> None:
        with mean.in_place():
            assert parameter.item() == 1.0
            raise KeyError

    with pytest.raises(KeyError):
        spoiled()
    assert parameter.item() == 2.0


def test_a_state_of_other_parameters_is_refused() -> None:
    state = RunningMean({"own": torch.zeros(3)}, 50).state()
    for name, size in (("other", 3), ("own", 4)):
        with pytest.raises(IntegrityError, match=f"does not fit parameter {name}"):
            RunningMean({name: torch.zeros(size)}, 50).restore(state, 1)


@pytest.mark.parametrize("most", [1, 3, 50])
def test_an_expert_is_the_mean_of_the_weights_that_its_training_went_through(
    bert, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expert, "KEEP_SECONDS", 0.0)
    job = job_for(bert, epochs=4, average_steps=most)
    states: list[Checkpoint] = []
    identity = job_digest(job, bert)
    trained = train_expert(
        job,
        bert,
        keep=lambda data: states.append(Checkpoint.from_bytes(data, "here", identity)),
    )
    kept = [state for state in states if state.step <= trained.best_epoch * 3]
    assert len(kept) == trained.best_epoch * 3, "48 rows in batches of 16"
    every = np.stack([state.state["head_bias/value"].numpy() for state in kept])
    wanted = weights(len(kept), most) @ every.astype(np.float64)
    np.testing.assert_allclose(trained.file.tensors["head.bias"].numpy(), wanted, atol=1e-6)
    last = np.abs(every[-1] - wanted).max()
    assert (last < 1e-7) == (most == 1)
