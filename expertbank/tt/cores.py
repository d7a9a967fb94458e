"""First values of tensor-train cores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from expertbank.tt.shape import TTShape


def initial_cores(shape: TTShape, count: int, generator: torch.Generator) -> list[Tensor]:
    """Cores of ``count`` projections of one shape, stacked, with ``ΔW`` exactly zero.

    The last core is zero, so at step 0 the model is the backbone itself. The others are
    Gaussian, scaled so that a column of ``A [in, r]`` has expected norm 1 and the part of
    ``B`` before its last core keeps entries of variance 1: the update's size is then set by
    the learning rate and alpha, not by the dimensions.

    Args:
        shape: shape of one projection's train.
        count: how many projections share the shape.
        generator: the only source of randomness.

    Returns:
        One float32 tensor ``[count, r_{k-1}, d_k, r_k]`` per core.
    """
    cores = []
    for position, (left, factor, right) in enumerate(shape.core_shapes):
        fan = left * factor if position < len(shape.in_factors) else left
        core = torch.randn(count, left, factor, right, generator=generator) / math.sqrt(fan)
        cores.append(core)
    cores[-1] = torch.zeros_like(cores[-1])
    return cores
