"""How sure an expert is of its answer, in whole steps: what is kept of known rows, and compared.

``-log(1 - p)`` of the answer's probability ``p``, as a kind has it, in steps of ``STEP``. Steps are
coarse enough that the last digits of logits, which depend on the batch, hardly show.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEP = 1 / 64
SUREST = 14.0
"""Surer than this is as sure as this: all but one in a million."""
UNASKED = -1
"""In place of the steps of a row whose expert was not asked, or was trained on it."""


def in_steps(sureness: Tensor) -> Tensor:
    """``[rows]`` int16 steps of ``-log(1 - p) [rows]``."""
    return (sureness.double().clamp(0, SUREST) / STEP).round_().to(torch.int16)


def unasked(rows: int) -> Tensor:
    """``[rows]`` int16 where nobody was asked."""
    return torch.full((rows,), UNASKED, dtype=torch.int16)


def is_sureness(steps: Tensor, rows: int) -> bool:
    """Whether ``steps`` could be those of so many rows."""
    sound = steps.dtype == torch.int16 and steps.shape == (rows,)
    return sound and bool(((steps >= UNASKED) & (steps <= round(SUREST / STEP))).all())
