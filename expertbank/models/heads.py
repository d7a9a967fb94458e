"""How an expert's head reads the backbone's last hidden states, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from expertbank.models.features import pool, scale_to_unit_rms
from expertbank.records import HeadPooling, TaskKind


def head_outputs(kind: TaskKind, labels: Sequence[str]) -> int:
    """Outputs per sequence: one a class, or one for a choice's score or a value."""
    return len(labels) if kind == "classification" else 1


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


def logits_by_row(outputs: Tensor, row_of: Tensor, per_choice: Tensor) -> Tensor:
    """Logits of rows from head outputs of sequences.

    A row of a multiple-choice expert takes one output from each of its sequences, one a choice;
    any other row is one sequence and takes its outputs as they are.

    Args:
        outputs: ``[sequences, width]``, ``-inf`` beyond a sequence's own outputs.
        row_of: ``[sequences]`` row of each sequence, ascending.
        per_choice: ``[sequences]`` whether its row's expert scores choices.

    Returns:
        ``[rows, max(width, most choices)]``, ``-inf`` where a row has no such class or choice.
    """
    if not bool(per_choice.any()):
        return outputs
    counts = torch.bincount(row_of)
    first = counts.cumsum(0) - counts
    place = torch.arange(len(row_of), device=row_of.device) - first[row_of]
    width = max(outputs.shape[1] if not bool(per_choice.all()) else 1, int(counts.max()))
    result = outputs.new_full((len(counts), width), float("-inf"))
    plain = ~per_choice
    if bool(plain.any()):
        result[row_of[plain], : outputs.shape[1]] = outputs[plain]
    return result.index_put((row_of[per_choice], place[per_choice]), outputs[per_choice, 0])
