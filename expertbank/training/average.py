"""The running mean of the weights, which is kept in place of those of one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from expertbank.errors import IntegrityError

SLOPE = 2
"""The mean of few steps goes over about a third of them: it shall not drag the start along."""


class RunningMean:
    """Parameters as they stood in the mean over the last steps; the later a step, the more of it.

    Step ``t`` enters with ``(slope + 1) / (t + slope)`` (polynomial decay, Shamir and Zhang, ICML
    2013, section 4), but never with less than ``1 / steps``. The first step is its own mean.

    Args:
        parameters: what is trained, by name.
        steps: over how many steps the mean goes, at most; with 1 it is the last step itself.
        slope: how fast it forgets before.
    """

    def __init__(self, parameters: Mapping[str, Tensor], steps: int, slope: int = SLOPE) -> None:
        self._parameters = dict(parameters)
        self._least, self._slope = 1 / steps, slope
        self._mean = {name: own.detach().clone() for name, own in self._parameters.items()}
        self._taken = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters of one more step in."""
        self._taken += 1
        share = max(self._least, (self._slope + 1) / (self._taken + self._slope))
        for name, own in self._parameters.items():
            self._mean[name].lerp_(own, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The parameters are the mean inside, and those of the last step again afterwards."""
        last = {name: own.detach().clone() for name, own in self._parameters.items()}
        self._put(self._mean)
        try:
            yield
        finally:
            self._put(last)

    def state(self) -> dict[str, Tensor]:
        """The mean by name, as copies."""
        return {name: mean.clone() for name, mean in self._mean.items()}

    def restore(self, state: Mapping[str, Tensor], taken: int) -> None:
        """Go on from an earlier ``state``, in which so many steps were taken.

        Raises:
            IntegrityError: it is of other parameters.
        """
        for name, mean in self._mean.items():
            if name not in state or state[name].shape != mean.shape:
                raise IntegrityError(f"the checkpoint does not fit parameter {name}")
            mean.copy_(state[name])
        self._taken = taken

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, own in self._parameters.items():
            own.copy_(values[name])
