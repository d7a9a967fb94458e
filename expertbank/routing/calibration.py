"""How sure a router may be: the temperature of its scores, from rows that sat out the sums."""

from __future__ import annotations

import torch

from expertbank.routing.examples import Rows
from expertbank.routing.gates import Gate

SCORES, ROWS = 2_000_000, 2_500
"""Most scores computed to calibrate, and about the most rows. With many columns each brings fewer
rows, and at last only some columns bring any, so that the cost stays linear in the columns."""
LARGEST = 3.0
"""Temperatures lie between ten to minus this and ten to this."""
STEPS, ROUNDS = 6, 6
"""Steps to either side, and how often the best is looked about in so many times smaller ones."""
FARTHEST = 12.0
"""Log-odds that count at most: a gate may be surer than any number of rows could show."""


def rows_a_column(columns: int) -> tuple[int, int]:
    """How many rows a column brings at most to calibrate, and that one in how many columns does.

    Args:
        columns: how many there are.
    """
    each = max(1, min(SCORES // columns**2, ROWS // columns))
    return each, -(-(columns**2) * each // SCORES)


def best_temperature(gate: Gate, held: Rows) -> float:
    """Temperature that minimises the negative log-likelihood of rows left out of a fit.

    Rows compete among the candidates that routing would allow them. (Guo et al., "On
    Calibration of Modern Neural Networks", ICML 2017, section 4.2.) One row's worth of the
    targets is spread over the wrong candidates, as Platt ("Probabilistic Outputs for Support
    Vector Machines", 1999, section 2.2) does, or a gate that errs on no held-out row would
    claim to be certain. Log-odds count up to ``FARTHEST``, or a column that is worlds apart from
    the others would make them all look alike. The best of some temperatures is looked about; of
    equally good ones it is the one nearest 1, as where no row has two candidates.
    """
    allowed, right = ~held.forbidden, held.targets.unsqueeze(1)
    scores = gate.scores(held.features).masked_fill(~allowed, float("-inf"))
    behind = scores - scores.amax(1, keepdim=True)
    blurred = 1 / (len(scores) + 2)
    wrong = allowed.scatter(1, right, False).double()
    wanted = blurred * wrong / wrong.sum(1, keepdim=True).clamp_min(1)
    wanted.scatter_(1, right, 1 - blurred * (wrong.sum(1, keepdim=True) > 0).double())

    def loss(power: float) -> float:
        odds = (behind * 10.0**-power).clamp_min(-FARTHEST).masked_fill(~allowed, float("-inf"))
        logs = torch.log_softmax(odds, dim=1).masked_fill(~allowed, 0.0)
        return -float((wanted * logs).sum(1).mean())

    best, width = 0.0, LARGEST
    for _ in range(ROUNDS):
        powers = [best + width * step / STEPS for step in range(-STEPS, STEPS + 1)]
        inside = [power for power in powers if abs(power) <= LARGEST]
        best, width = min(inside, key=lambda power: (loss(power), abs(power))), width / STEPS
    return float(10.0**best)
