"""How sure an expert is of its answer, in whole steps: what is kept of known rows, and compared.

``-log(1 - p)`` of the answer's probability ``p``, as a kind has it, in steps of ``STEP``. Steps are
coarse enough that the last digits of logits, which depend on the batch, hardly show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

STEP = 1 / 64
SUREST = 14.0
"""Surer than this is as sure as this: all but one in a million."""
UNASKED = -1
"""In place of the steps of a row whose expert was not asked, or was trained on it."""


@dataclass(frozen=True, slots=True)
class Usual:
    """How sure an expert is of rows that are its own, which it was not trained on; all in steps.

    Attributes:
        mean: over them.
        deviation: of them, above 0.
        guess: how sure whoever guesses is, to whom all answers are alike; ``None`` where nobody
            knows.
    """

    mean: float
    deviation: float
    guess: float | None = None


def in_steps(sureness: Tensor) -> Tensor:
    """``[rows]`` int16 steps of ``-log(1 - p) [rows]``."""
    return (sureness.double().clamp(0, SUREST) / STEP).round_().to(torch.int16)


def unasked(rows: int) -> Tensor:
    """``[rows]`` int16 where nobody was asked."""
    return torch.full((rows,), UNASKED, dtype=torch.int16)


def read_guess(metadata: Mapping[str, Any]) -> int | None:
    """What a file's metadata says of who guesses.

    Raises:
        ValueError: nothing that could be.
    """
    found = metadata.get("guess")
    if found is not None and (type(found) is not int or not 0 <= found <= round(SUREST / STEP)):
        raise ValueError(f"a guess of {found!r} steps")
    return found


def is_sureness(steps: Tensor, rows: int) -> bool:
    """Whether ``steps`` could be those of so many rows."""
    sound = steps.dtype == torch.int16 and steps.shape == (rows,)
    return sound and bool(((steps >= UNASKED) & (steps <= round(SUREST / STEP))).all())
