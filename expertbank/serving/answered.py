"""What comes back from a server."""

from __future__ import annotations

from dataclasses import dataclass

from expertbank.serving.live import ServingState
from expertbank.workflows.answering.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to one ``Ask``.

    Attributes:
        predictions: one a row, in the rows' order; of a group each with all its ``answers``.
        state: what all of them were answered by.
        queued_seconds: from ``submit`` until the first of the rows was taken from the queue.
        inference_seconds: from then until the last of them was answered.
        tokens: that the backbone read of the rows: special ones included, what was cut off not.
    """

    predictions: tuple[Prediction, ...]
    state: ServingState
    queued_seconds: float
    inference_seconds: float
    tokens: int
