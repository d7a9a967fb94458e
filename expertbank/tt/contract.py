"""Exact contraction of a tensor train into two matrices, and the way back from a matrix.

With input cores first, ``x ΔW = (x A) B`` where ``A`` contracts the input cores and ``B``
the output cores. The cost does not depend on the number of tokens, autograd runs through it,
and inference keeps only ``A`` and ``B``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from expertbank.errors import InputError
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


def decompose(matrices: Tensor, shape: TTShape) -> list[Tensor]:
    """Cores of the tensor train that is nearest to given matrices, by successive SVDs.

    The inverse of ``dense``: exact where ``shape``'s ranks are attainable for the matrices, and
    else within ``sqrt(cores - 1)`` of the best train of these ranks in Frobenius norm.
    Source: Oseledets, "Tensor-Train Decomposition", SIAM J. Sci. Comput. 33(5), 2011,
    algorithm 1 and corollary 2.4.

    Args:
        matrices: ``[count, in, out]``.
        shape: the shape the cores get.

    Returns:
        One tensor ``[count, r_{k-1}, d_k, r_k]`` per core. Where a matrix has a lower rank than
        the shape, the spare part is zero.
    """
    count = matrices.shape[0]
    if matrices.shape[1:] != (shape.in_features, shape.out_features):
        raise InputError(
            f"matrices of {tuple(matrices.shape[1:])} do not decompose to "
            f"{shape.in_features} by {shape.out_features}"
        )
    cores = []
    rest = matrices
    for left, factor, right in shape.core_shapes[:-1]:
        # [count, r_{k-1}·d_k, what follows]
        unfolded = rest.reshape(count, left * factor, -1)
        u, s, vh = torch.linalg.svd(unfolded, full_matrices=False)
        kept = min(right, s.shape[-1])
        spare = (0, right - kept)
        cores.append(pad(u[..., :kept], spare).reshape(count, left, factor, right))
        rest = pad(s[:, :kept, None] * vh[:, :kept], (0, 0, *spare))
    cores.append(rest.reshape(count, *shape.core_shapes[-1]))
    return cores


def dense(cores: Sequence[Tensor], shape: TTShape) -> Tensor:
    """The full update ``ΔW [count, in, out]``: for tests and tools, never for inference."""
    a, b = collapse(cores, shape)
    return a @ b
