"""Length-bucketed batches of encoded rows, planned the same way every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expertbank.records import EncodedRow

EVALUATION_BATCH = 32
"""Rows a batch in evaluation; stored with every evaluation as its batch plan."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded sequences of some rows.

    Attributes:
        rows: positions of the rows in the list they came from.
        input_ids: ``[sequences, tokens]``.
        attention_mask: ``[sequences, tokens]``, 1 on real tokens.
        token_type_ids: ``[sequences, tokens]``.
        row_of: ``[sequences]``, index into ``rows``; a multiple-choice row has one sequence
            per choice.
        second: ``[sequences]``, the place where the second text begins; that of the first token
            where there is one text.
        targets: ``[rows]``, or ``[rows, labels]`` where a row has several; NaN for none, and for
            text.
        left: whether sequences are padded on the left, as those must be that are written on.
    """

    rows: tuple[int, ...]
    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    row_of: Tensor
    second: Tensor
    targets: Tensor
    left: bool = False

    @property
    def tokens(self) -> int:
        """Real tokens, padding not counted."""
        return int(self.attention_mask.sum())


def plan_batches(rows: Sequence[EncodedRow], batch_size: int) -> list[tuple[int, ...]]:
    """Positions of rows, shortest first, cut into batches: equal rows give equal batches."""
    order = sorted(range(len(rows)), key=lambda index: (rows[index].length, index))
    return [tuple(order[i : i + batch_size]) for i in range(0, len(order), batch_size)]


def shuffled_batches(
    rows: Sequence[EncodedRow], batch_size: int, generator: torch.Generator, *, window: int = 16
) -> list[tuple[int, ...]]:
    """Random batches of rows of similar length, in random order.

    Rows are shuffled, sorted by length within windows of ``window`` batches, and the batches
    shuffled again: little padding, and still a different order each epoch.
    """
    order = torch.randperm(len(rows), generator=generator).tolist()
    span = batch_size * window
    batches: list[tuple[int, ...]] = []
    for start in range(0, len(order), span):
        part = sorted(order[start : start + span], key=lambda index: rows[index].length)
        batches += [tuple(part[i : i + batch_size]) for i in range(0, len(part), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def collate(
    rows: Sequence[EncodedRow],
    positions: Sequence[int],
    pad_id: int,
    device: torch.device,
    *,
    left: bool = False,
) -> Batch:
    """Pad the rows at ``positions`` to the longest of them, on the right or on the ``left``."""
    chosen = [rows[position] for position in positions]
    width = max(row.length for row in chosen)
    ids, types, mask, row_of, second = [], [], [], [], []
    for index, row in enumerate(chosen):
        starts = row.second or (0,) * len(row.sequences)
        for sequence, type_ids, start in zip(row.sequences, row.type_ids, starts, strict=True):
            fill = [0] * (width - len(sequence))
            pad = [pad_id] * len(fill)
            before, after = (fill, []) if left else ([], fill)
            ids.append([*pad[: len(before)], *sequence, *pad[: len(after)]])
            types.append([*before, *type_ids, *after])
            mask.append([*before, *[1] * len(sequence), *after])
            row_of.append(index)
            second.append(len(before) + start)
    targets = [
        float("nan") if row.target is None or isinstance(row.target, str) else row.target
        for row in chosen
    ]
    return Batch(
        tuple(positions),
        torch.tensor(ids, device=device),
        torch.tensor(mask, device=device),
        torch.tensor(types, device=device),
        torch.tensor(row_of, device=device),
        torch.tensor(second, device=device),
        torch.tensor(targets, dtype=torch.float32, device=device),
        left,
    )
