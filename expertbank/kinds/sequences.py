"""From the head's outputs of sequences to the logits of rows."""

from __future__ import annotations

import torch
from torch import Tensor


def logits_by_row(outputs: Tensor, row_of: Tensor, by_sequence: Tensor) -> Tensor:
    """Logits of rows from head outputs of sequences.

    A row of a multiple-choice expert takes one output from each of its sequences, one a choice;
    any other row is one sequence and takes its outputs as they are.

    Args:
        outputs: ``[sequences, width]``, ``-inf`` beyond a sequence's own outputs.
        row_of: ``[sequences]`` row of each sequence, ascending.
        by_sequence: ``[sequences]`` whether its row's expert scores choices.

    Returns:
        ``[rows, max(width, most choices)]``, ``-inf`` where a row has no such class or choice.
    """
    if not bool(by_sequence.any()):
        return outputs
    counts = torch.bincount(row_of)
    first = counts.cumsum(0) - counts
    place = torch.arange(len(row_of), device=row_of.device) - first[row_of]
    width = max(outputs.shape[1] if not bool(by_sequence.all()) else 1, int(counts.max()))
    result = outputs.new_full((len(counts), width), float("-inf"))
    plain = ~by_sequence
    if bool(plain.any()):
        result[row_of[plain], : outputs.shape[1]] = outputs[plain]
    return result.index_put((row_of[by_sequence], place[by_sequence]), outputs[by_sequence, 0])
