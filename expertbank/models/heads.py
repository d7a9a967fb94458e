"""How an expert's head reads the backbone's last hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from expertbank.adapters.pool import CollapsedExpert
from expertbank.backbones.features import pool, scale_to_unit_rms
from expertbank.records import HeadPooling


def head_input(last: Tensor, mask: Tensor, pooling: HeadPooling, *, scaled: bool = True) -> Tensor:
    """One vector per sequence, scaled to root mean square 1.

    Backbones differ tenfold in the size of their last states; scaled, one learning rate and
    one initialisation fit all heads.

    Args:
        last: ``[sequences, tokens, hidden]``.
        mask: ``[sequences, tokens]``, 1 on real tokens.
        pooling: the expert's choice.
        scaled: false for a head that was trained elsewhere, on the states as they are.

    Returns:
        ``[sequences, hidden]`` in float32.
    """
    pooled = pool(last, mask, pooling)
    return scale_to_unit_rms(pooled) if scaled else pooled


def head_inputs(
    last: Tensor, mask: Tensor, experts: Sequence[CollapsedExpert], index: Sequence[int]
) -> Tensor:
    """What the heads read, where each sequence's expert has its own way.

    Args:
        last: ``[sequences, tokens, hidden]``.
        mask: ``[sequences, tokens]``, 1 on real tokens.
        experts: whose heads read.
        index: per sequence the place of its expert among ``experts``.

    Returns:
        ``[sequences, hidden]`` in float32.
    """
    ways = [(expert.pooling, expert.scaled) for expert in experts]
    first, *others = sorted(set(ways))
    inputs = head_input(last, mask, first[0], scaled=first[1])
    for pooling, scaled in others:
        theirs = _among(index, [way == (pooling, scaled) for way in ways], last.device)
        own = head_input(last, mask, pooling, scaled=scaled)
        inputs = torch.where(theirs.unsqueeze(-1), own, inputs)
    for place, expert in enumerate(experts):
        if expert.dense is not None:
            theirs = _among(index, [place == other for other in range(len(experts))], last.device)
            inputs = inputs.index_put((theirs,), expert.dense(inputs[theirs]))
    return inputs


def _among(index: Sequence[int], chosen: Sequence[bool], device: torch.device) -> Tensor:
    """``[sequences]`` whether each one's expert is chosen."""
    return torch.tensor([chosen[place] for place in index], device=device)
