"""The state of an interrupted training run, as safetensors bytes.

Batches and initial values follow from the job's seed, so a step number, the parameters, their
running mean and the optimiser's moments are all that is needed to go on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from expertbank.errors import MALFORMED, InputError, IntegrityError
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.training.average import RunningMean
from expertbank.training.held_out import Best, Course, HeldOut

FORMAT = 3
"""Raised when an interrupted run would not end as the earlier version began it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run stands after some optimiser step.

    Attributes:
        job: digest of the job; another job cannot go on from here.
        step: optimiser steps done.
        tokens: real tokens trained on so far.
        seconds: time spent so far.
        state: parameters and AdamW moments by name.
        mean: the running mean of the parameters by name.
        best: the best checkpoint so far, ``None`` in the first epoch.
        curve: how held-out rows stood after each epoch that is done.
    """

    job: str
    step: int
    tokens: int
    seconds: float
    state: Mapping[str, Tensor]
    mean: Mapping[str, Tensor]
    best: Best | None
    curve: tuple[HeldOut, ...] = ()

    def to_bytes(self) -> bytes:
        """One safetensors file."""
        best = self.best
        metadata = {
            "format": FORMAT,
            "job": self.job,
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "best": best.epoch if best else None,
            "curve": [[one.score, one.loss] for one in self.curve],
        }
        tensors = {f"state/{name}": tensor for name, tensor in self.state.items()}
        tensors |= {f"mean/{name}": tensor for name, tensor in self.mean.items()}
        kept = best.tensors if best else {}
        tensors |= {f"best/{name}": tensor for name, tensor in kept.items()}
        return write_safetensors({n: t.detach().cpu() for n, t in tensors.items()}, metadata)

    @classmethod
    def from_bytes(cls, data: bytes, where: str, job: str) -> Checkpoint:
        """Inverse of ``to_bytes``.

        Raises:
            IntegrityError: not a checkpoint.
            InputError: a checkpoint of another job.
        """
        tensors, metadata = read_safetensors(data, where)
        try:
            if metadata["job"] != job or metadata["format"] != FORMAT:
                raise InputError(
                    f"{where}: the interrupted run had other rows, settings, versions of "
                    "expertbank and its libraries, or threads; repeat its command exactly, or "
                    "leave --resume out to start anew"
                )
            curve = tuple(HeldOut(float(score), float(loss)) for score, loss in metadata["curve"])
            best = metadata["best"]
            return cls(
                job,
                int(metadata["step"]),
                int(metadata["tokens"]),
                float(metadata["seconds"]),
                _part(tensors, "state/"),
                _part(tensors, "mean/"),
                None if best is None else Best(curve[best], best, _part(tensors, "best/")),
                curve,
            )
        except MALFORMED as error:
            raise IntegrityError(f"{where}: not a training checkpoint ({error!r})") from error


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


@dataclass(frozen=True, slots=True)
class Run:
    """All that changes while an expert is trained, and that a checkpoint brings back.

    Attributes:
        parameters: what is trained, by name.
        optimiser: its moments.
        average: the running mean of the parameters.
        course: how it went so far.
    """

    parameters: Mapping[str, Tensor]
    optimiser: torch.optim.Optimizer
    average: RunningMean
    course: Course

    def checkpoint(self, job: str, step: int, tokens: int, seconds: float) -> Checkpoint:
        """Where the run stands; for the arguments see ``Checkpoint``."""
        state: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            state[f"{name}/value"] = parameter.detach().clone()
            for key, value in self.optimiser.state.get(parameter, {}).items():
                state[f"{name}/{key}"] = torch.as_tensor(value).detach().clone()
        mean, course = self.average.state(), self.course
        return Checkpoint(job, step, tokens, seconds, state, mean, course.best, course.curve)

    def restore(self, before: Checkpoint) -> None:
        """Go on from an earlier run's state.

        Raises:
            IntegrityError: the state does not fit the parameters.
        """
        for name, parameter in self.parameters.items():
            own = _part(before.state, f"{name}/")
            value = own.pop("value", None)
            if value is None or value.shape != parameter.shape:
                raise IntegrityError(f"the checkpoint does not fit parameter {name}")
            with torch.no_grad():
                parameter.copy_(value)
            if own:
                self.optimiser.state[parameter] = {
                    # AdamW counts steps in a tensor on the CPU, whatever the parameter's device.
                    key: moment if key == "step" else moment.to(parameter.device)
                    for key, moment in own.items()
                }
        self.average.restore(before.mean, before.step)
        self.course.best, self.course.curve = before.best, before.curve
