"""One seeded optimisation loop: schedule, clipping, progress, and a refusal of bad losses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expertbank.errors import TrainingError
from expertbank.records import ProgressCallback, ProgressEvent

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


@dataclass(frozen=True, slots=True)
class Step:
    """An optimiser step that was taken: which of all, from 1, and in which epoch, from 0."""

    number: int
    epoch: int
    ends_epoch: bool


def adamw(
    groups: Sequence[tuple[Iterable[Tensor], float]], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW with decoupled weight decay over groups of parameters and their peak learning rates."""
    members = [(list(parameters), rate) for parameters, rate in groups]
    on_cpu = all(one.device.type == "cpu" for parameters, _ in members for one in parameters)
    return torch.optim.AdamW(
        [{"params": parameters, "lr": rate} for parameters, rate in members],
        weight_decay=weight_decay,
        # One kernel for all parameters; elsewhere than on the CPU torch chooses well itself.
        fused=True if on_cpu else None,
    )


def optimise(
    optimiser: torch.optim.Optimizer,
    plans: Sequence[Sequence[Sequence[int]]],
    gradient: Callable[[Sequence[int]], tuple[float, int]],
    *,
    warmup: float,
    meter: Meter,
    done: int = 0,
) -> Iterator[Step]:
    """Minimise a loss batch after batch; whoever asks for no further step has ended it.

    Args:
        optimiser: as ``adamw`` makes it; its rates are the peaks.
        plans: per epoch its batches, as positions of rows.
        gradient: adds the gradient of the loss over the rows at some positions to the parameters,
            and returns the loss and the number of tokens.
        warmup: share of all steps in which the rate rises.
        meter: is advanced by each step's rows and tokens.
        done: steps that an earlier run took.

    Yields:
        Each step when it is taken.

    Raises:
        TrainingError: a loss that is not finite; its step is not taken.
    """
    peaks = [group["lr"] for group in optimiser.param_groups]
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    batches = [
        (epoch, positions, place == len(plan))
        for epoch, plan in enumerate(plans)
        for place, positions in enumerate(plan, start=1)
    ]
    total = len(batches)
    for number, (epoch, positions, last) in enumerate(batches[done:], start=done + 1):
        for group, peak in zip(optimiser.param_groups, peaks, strict=True):
            group["lr"] = peak * cosine_with_warmup(number - 1, total, warmup)
        optimiser.zero_grad(set_to_none=True)
        loss, tokens = gradient(positions)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} at step {number} of {total} (epoch {epoch + 1}); nothing "
                "was stored. Try a lower learning rate (--lr) or a smaller alpha (--alpha)"
            )
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        optimiser.step()
        meter.advance(len(positions), tokens, f"epoch {epoch + 1}/{len(plans)}  loss {loss:.3f}")
        yield Step(number, epoch, last)
