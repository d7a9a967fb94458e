"""Exact contraction of a tensor train into two matrices.

With input cores first, ``x ΔW = (x A) B`` where ``A`` contracts the input cores and ``B``
the output cores. The cost does not depend on the number of tokens, autograd runs through it,
and inference keeps only ``A`` and ``B``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from expertbank.tt.shape import TTShape


def collapse(cores: Sequence[Tensor], shape: TTShape) -> tuple[Tensor, Tensor]:
    """Contract stacked cores to their factors, all projections in one batched call.

    Args:
        cores: one tensor ``[count, r_{k-1}, d_k, r_k]`` per core, inputs first.
        shape: the shape they have.

    Returns:
        ``A [count, in, r]`` and ``B [count, r, out]`` with ``r`` the middle rank. The row
        index of ``A`` runs over ``(m1, …, mp)`` with ``mp`` fastest, as ``reshape`` does.
    """
    split = len(shape.in_factors)
    count = cores[0].shape[0]
    a = cores[0].reshape(count, shape.factors[0], shape.ranks[1])
    for core in cores[1:split]:
        # [count, M, r] @ [count, r, d·r'] → [count, M·d, r']
        a = (a @ core.flatten(2)).reshape(count, -1, core.shape[-1])
    b = cores[-1].reshape(count, shape.ranks[-2], shape.factors[-1])
    for core in reversed(cores[split:-1]):
        # [count, r·d, r'] @ [count, r', N] → [count, r, d·N]
        b = (core.flatten(1, 2) @ b).reshape(count, core.shape[1], -1)
    return a, b


def dense(cores: Sequence[Tensor], shape: TTShape) -> Tensor:
    """The full update ``ΔW [count, in, out]``: for tests and tools, never for inference."""
    a, b = collapse(cores, shape)
    return a @ b
