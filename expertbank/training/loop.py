"""One seeded optimisation loop: schedule, clipping, progress, and a refusal of bad losses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expertbank.errors import TrainingError
from expertbank.records import ProgressCallback, ProgressEvent
from expertbank.training.average import RunningMean

MAX_GRADIENT_NORM = 1.0


def cosine_with_warmup(step: int, total: int, warmup: float) -> float:
    """Factor on the peak learning rate at ``step`` of ``total``: linear up, then cosine to 0."""
    rising = max(1, round(total * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


@dataclass(slots=True)
class Meter:
    """Counts tokens and time, and tells the caller's callback now and then."""

    stage: str
    total: int
    callback: ProgressCallback
    done: int = 0
    tokens: int = 0
    started: float = 0.0
    _told: float = 0.0
    _before_units: int = 0
    _before_tokens: int = 0

    def __post_init__(self) -> None:
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the meter was made."""
        return time.monotonic() - self.started

    @property
    def tokens_per_second(self) -> float:
        """Over the whole time so far."""
        return (self.tokens - self._before_tokens) / max(self.seconds, 1e-9)

    def skip(self, units: int, tokens: int) -> None:
        """Count work that an earlier run did; the rate counts only what is done from now on."""
        self.done += units
        self._before_units, self._before_tokens = units, tokens
        self.tokens += tokens

    def advance(self, units: int, tokens: int, detail: str = "") -> None:
        """Add finished units; the callback hears at most five times a second, and the last."""
        self.done += units
        self.tokens += tokens
        now = time.monotonic()
        if now - self._told < 0.2 and self.done < self.total:
            return
        self._told = now
        own = self.done - self._before_units
        left = self.seconds / own * (self.total - self.done) if own else None
        text = f"{self.tokens_per_second:,.0f} tokens/s"
        self.callback(
            ProgressEvent(
                self.stage, self.done, self.total, f"{detail}  {text}" if detail else text, left
            )
        )


def optimise(
    groups: Sequence[tuple[Iterable[Tensor], float]],
    steps: Sequence[Sequence[Callable[[], tuple[float, int, int]]]],
    *,
    weight_decay: float,
    warmup: float,
    meter: Meter,
    after_epoch: Callable[[int], bool | None],
    average: RunningMean | None = None,
    resume: Callable[[torch.optim.Optimizer], int] | None = None,
    after_step: Callable[[torch.optim.Optimizer, int], None] | None = None,
) -> None:
    """Minimise the losses whose gradients ``steps`` compute, epoch after epoch.

    Args:
        groups: parameters with their peak learning rate.
        steps: per epoch, the thunks that each add the gradient of their loss to the parameters
            and return ``(loss, rows, tokens)``.
        weight_decay: decoupled weight decay (AdamW).
        warmup: share of all steps in which the rate rises.
        meter: is advanced by each step's rows and tokens.
        after_epoch: called with the epoch's number, from 0; true ends the training.
        average: takes in what each step makes of the parameters.
        resume: puts an earlier state into the optimiser and says how many steps it had done.
        after_step: called with the optimiser and the number of steps done, after each step and,
            at the end of an epoch, after ``after_epoch``.

    Raises:
        TrainingError: a loss that is not finite; nothing is kept.
    """
    parameters = [(list(members), rate) for members, rate in groups]
    everything = [parameter for members, _ in parameters for parameter in members]
    optimiser = torch.optim.AdamW(
        [{"params": members, "lr": rate} for members, rate in parameters],
        weight_decay=weight_decay,
        # One kernel for all parameters; elsewhere than on the CPU torch chooses well itself.
        fused=True if all(p.device.type == "cpu" for p in everything) else None,
    )
    total = sum(len(epoch) for epoch in steps)
    done_before = resume(optimiser) if resume else 0
    step = 0
    for number, epoch in enumerate(steps):
        for place, compute in enumerate(epoch):
            step += 1
            if step <= done_before:
                continue
            for group, (_, rate) in zip(optimiser.param_groups, parameters, strict=True):
                group["lr"] = rate * cosine_with_warmup(step - 1, total, warmup)
            optimiser.zero_grad(set_to_none=True)
            value, rows, tokens = compute()
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss became {value} at step {step} of {total} "
                    f"(epoch {number + 1}); nothing was stored. Try a lower learning rate "
                    "(--lr) or a smaller alpha (--alpha)"
                )
            torch.nn.utils.clip_grad_norm_(everything, MAX_GRADIENT_NORM)
            optimiser.step()
            if average:
                average.update()
            meter.advance(rows, tokens, f"epoch {number + 1}/{len(steps)}  loss {value:.3f}")
            ended = place == len(epoch) - 1 and after_epoch(number)
            if after_step:
                after_step(optimiser, step)
            if ended:
                return
