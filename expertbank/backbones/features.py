"""Routing features: trunk hidden states, pooled with the caller's mask, normalised, rounded.

States are read by hooks on the *inputs* of layers, which every family passes as one tensor,
while layer outputs are tuples in some families and tensors in others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from expertbank.config import FeatureSpec
from expertbank.errors import UnsupportedModelError

NO_REPLICAS = (
    "DataParallel runs copies of the backbone in other threads, which do not see the running "
    "call's experts; use one process a device instead"
)

Observer = Callable[[Tensor], None]

_observers: ContextVar[Mapping[nn.Module, Observer] | None] = ContextVar("observers", default=None)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch leaves it unannotated
def _observe(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if getattr(layer, "_is_replica", False):
        raise UnsupportedModelError(NO_REPLICAS)
    observers = _observers.get()
    observer = observers.get(layer) if observers else None
    if observer is not None:
        observer(args[0] if args else kwargs["hidden_states"])


def install(layers: Sequence[nn.Module]) -> None:
    """Make ``layers`` show their inputs within ``observing``; doing it twice is harmless."""
    for layer in layers:
        if _observe not in layer._forward_pre_hooks.values():
            layer.register_forward_pre_hook(_observe, with_kwargs=True)


@contextmanager
def observing(observers: Mapping[nn.Module, Observer]) -> Iterator[None]:
    """Within the block, and in this thread or task only, call ``observers`` on layer inputs."""
    token = _observers.set(observers)
    try:
        yield
    finally:
        _observers.reset(token)


def pool(state: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """One vector per sequence from ``state [batch, tokens, hidden]``, real tokens only.

    Args:
        state: hidden states of any floating type.
        mask: ``[batch, tokens]``, 1 on real tokens; padding may be on either side.
        pooling: ``mean``, ``first`` or ``last`` real token.

    Returns:
        ``[batch, hidden]`` in float32.
    """
    if pooling == "mean":
        weights = mask.to(torch.float32).unsqueeze(-1)
        return (state.float() * weights).sum(1) / weights.sum(1).clamp_min(1)
    positions = torch.arange(mask.shape[1], device=mask.device)
    if pooling == "first":
        index = (
            torch.where(mask.bool(), positions, mask.shape[1]).amin(1).clamp_max(mask.shape[1] - 1)
        )
    else:
        index = torch.where(mask.bool(), positions, 0).amax(1)
    return state[torch.arange(len(state), device=state.device), index].float()


def feature(states: Sequence[Tensor], mask: Tensor, spec: FeatureSpec) -> Tensor:
    """Routing feature of each sequence.

    Every pooled block is scaled to root mean square 1 before it is rounded to float16, so no
    backbone's magnitudes overflow; the rounded value is what live routing sees too.

    Args:
        states: the hidden states ``spec.states``, each ``[batch, tokens, hidden]``.
        mask: ``[batch, tokens]``.
        spec: which poolings to take.

    Returns:
        ``[batch, len(states) · len(poolings) · hidden]`` in float16.
    """
    blocks = [pool(state, mask, pooling) for state in states for pooling in spec.poolings]
    return torch.cat([scale_to_unit_rms(block) for block in blocks], dim=-1).to(torch.float16)


def scale_to_unit_rms(vectors: Tensor) -> Tensor:
    """``vectors [batch, d]``, each divided by its root mean square."""
    return vectors / vectors.pow(2).mean(-1, keepdim=True).sqrt().clamp_min(1e-6)


def mean_by_row(values: Tensor, row_of: Tensor) -> Tensor:
    """Mean over each row's sequences: ``[sequences, d]`` to ``[rows, d]``, same type."""
    rows = int(row_of.max()) + 1
    if rows == len(row_of):
        return values
    total = torch.zeros(rows, values.shape[1], device=values.device)
    total.index_add_(0, row_of, values.float())
    counts = torch.bincount(row_of, minlength=rows).unsqueeze(-1)
    return (total / counts).to(values.dtype)
