"""How an expert's head reads the backbone's last hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from expertbank.backbones.features import pool, scale_to_unit_rms
from expertbank.records import HeadPooling


def head_input(last: Tensor, mask: Tensor, pooling: HeadPooling) -> Tensor:
    """One vector per sequence, scaled to root mean square 1.

    Backbones differ tenfold in the size of their last states; scaled, one learning rate and
    one initialisation fit all heads.

    Args:
        last: ``[sequences, tokens, hidden]``.
        mask: ``[sequences, tokens]``, 1 on real tokens.
        pooling: the expert's choice.

    Returns:
        ``[sequences, hidden]`` in float32.
    """
    return scale_to_unit_rms(pool(last, mask, pooling))


def head_inputs(
    last: Tensor, mask: Tensor, poolings: Sequence[HeadPooling], index: Sequence[int]
) -> Tensor:
    """``head_input`` where each sequence's expert has its own pooling.

    Args:
        last: ``[sequences, tokens, hidden]``.
        mask: ``[sequences, tokens]``, 1 on real tokens.
        poolings: the experts' choices.
        index: per sequence the place of its expert among ``poolings``.

    Returns:
        ``[sequences, hidden]`` in float32.
    """
    first, *others = sorted(set(poolings))
    inputs = head_input(last, mask, first)
    for pooling in others:
        theirs = torch.tensor([poolings[place] == pooling for place in index], device=last.device)
        inputs = torch.where(theirs.unsqueeze(-1), head_input(last, mask, pooling), inputs)
    return inputs
