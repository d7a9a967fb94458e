"""How an expert's head reads the backbone's last hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.adapters.stack import CollapsedExpert
from expertbank.backbones.batches import Batch
from expertbank.backbones.features import pool, scale_to_unit_rms
from expertbank.records import HeadPooling


def head_width(hidden: int, pooling: HeadPooling) -> int:
    """Numbers that a head reads of one sequence, on a backbone whose states are ``hidden`` wide."""
    return 3 * hidden if pooling == "pair" else hidden


def head_input(last: Tensor, batch: Batch, pooling: HeadPooling, *, scaled: bool = True) -> Tensor:
    """One vector per sequence, scaled to root mean square 1.

    Backbones differ tenfold in the size of their last states; scaled, one learning rate and
    one initialisation fit all heads.

    Of two texts ``pair`` reads their mean, and how the means ``u`` and ``v`` of each differ and
    agree, ``|u − v|`` and ``u·v`` by coordinate, each of the three scaled before (Conneau et al.,
    arXiv 1705.02364, with both texts in one sequence). Of one text ``u`` and ``v`` are its mean.

    Args:
        last: ``[sequences, tokens, hidden]``.
        batch: whose states they are.
        pooling: the expert's choice.
        scaled: false for a head that was trained elsewhere, on the states as they are; it reads
            no pairs.

    Returns:
        ``[sequences, head_width]`` in float32.
    """
    mask = batch.attention_mask
    if pooling != "pair":
        pooled = pool(last, mask, pooling)
        return scale_to_unit_rms(pooled) if scaled else pooled
    places = torch.arange(mask.shape[1], device=mask.device)
    behind = places >= batch.second.unsqueeze(1)
    second = mask * behind
    first = mask * ~behind
    first = torch.where(first.any(1, keepdim=True), first, second)
    mean, u, v = (scale_to_unit_rms(pool(last, part, "mean")) for part in (mask, first, second))
    return torch.cat([mean, (u - v).abs(), u * v], 1)


def head_inputs(
    last: Tensor, batch: Batch, experts: Sequence[CollapsedExpert], index: Sequence[int]
) -> Tensor:
    """What the heads read, where each sequence's expert has its own way.

    Args:
        last: ``[sequences, tokens, hidden]``.
        batch: whose states they are.
        experts: whose heads read.
        index: per sequence the place of its expert among ``experts``.

    Returns:
        ``[sequences, width]`` in float32, as wide as the widest head, zero beyond a narrower one.
    """
    ways = [(expert.pooling, expert.scaled) for expert in experts]
    width = max(head_width(last.shape[-1], pooling) for pooling, _ in ways)
    first, *others = sorted(set(ways))
    inputs = _widened(head_input(last, batch, first[0], scaled=first[1]), width)
    for pooling, scaled in others:
        theirs = _among(index, [way == (pooling, scaled) for way in ways], last.device)
        own = _widened(head_input(last, batch, pooling, scaled=scaled), width)
        inputs = torch.where(theirs.unsqueeze(-1), own, inputs)
    for place, expert in enumerate(experts):
        if expert.dense is not None:
            theirs = _among(index, [place == other for other in range(len(experts))], last.device)
            own = expert.dense(inputs[theirs, : last.shape[-1]])
            inputs = inputs.index_put((theirs,), _widened(own, width))
    return inputs


def _widened(vectors: Tensor, width: int) -> Tensor:
    """``vectors [sequences, d]`` with zeros up to ``width``."""
    return F.pad(vectors, (0, width - vectors.shape[1])) if vectors.shape[1] < width else vectors


def _among(index: Sequence[int], chosen: Sequence[bool], device: torch.device) -> Tensor:
    """``[sequences]`` whether each one's expert is chosen."""
    return torch.tensor([chosen[place] for place in index], device=device)
