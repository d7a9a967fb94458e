"""What a gate is fitted on, the same for every kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.config import RouterConfig
from expertbank.models.gates import Layer, candidates
from expertbank.records import RowShape
from expertbank.training.moments import BalancedMoments

BATCH = 512


@dataclass(frozen=True, slots=True)
class Block:
    """Columns that may compete for a row, and their moments in the same order."""

    columns: list[int]
    moments: BalancedMoments


@dataclass(frozen=True, slots=True)
class Examples:
    """Training rows by column.

    Attributes:
        blocks: moments of all columns; complete for every bank.
        features: per column ``[rows, dimension]`` float16; empty where only moments are kept.
        shapes: per column what each of its rows brings.
    """

    blocks: Sequence[Block]
    features: Sequence[Tensor]
    shapes: Sequence[Sequence[RowShape]]

    @property
    def moments(self) -> BalancedMoments:
        """Of all columns together, in their order."""
        places = {column: i for b in self.blocks for i, column in enumerate(b.columns)}
        owner = {column: block for block in self.blocks for column in block.columns}
        first, *others = self.blocks
        return BalancedMoments(
            [owner[column].moments.means[places[column]] for column in sorted(owner)],
            [owner[column].moments.counts[places[column]] for column in sorted(owner)],
            sum((block.moments.gram for block in others), first.moments.gram),
        )


def competing(reads: Sequence[Collection[RowShape]]) -> list[list[int]]:
    """Columns in blocks: two are in one block if some row may choose between them.

    Args:
        reads: the shapes that each column's experts were trained on.
    """
    blocks: list[tuple[set[RowShape], list[int]]] = []
    for column, shapes in enumerate(reads):
        joined, own = set(shapes), [column]
        for block in [block for block in blocks if block[0] & joined]:
            blocks.remove(block)
            joined |= block[0]
            own = block[1] + own
        blocks.append((joined, sorted(own)))
    return sorted(columns for _, columns in blocks)


def joined(
    blocks: Sequence[Block], solve: Callable[[BalancedMoments], tuple[Tensor, Tensor]]
) -> Layer:
    """One layer of blocks that are solved apart.

    Args:
        blocks: columns and moments, every column in one of them.
        solve: ``weight [dimension, columns]`` and ``bias [columns]`` of one block's moments.
    """
    solved = [solve(block.moments) for block in blocks]
    width = sum(len(block.columns) for block in blocks)
    weight = solved[0][0].new_zeros(len(solved[0][0]), width)
    bias = weight.new_zeros(width)
    for block, (own, offset) in zip(blocks, solved, strict=True):
        weight[:, block.columns] = own
        bias[block.columns] = offset
    return Layer(weight.float(), bias.float())


Fit = Callable[[Examples, RouterConfig], tuple[Layer, ...]]
"""Fits the layers of a gate; the last one has an output for every column."""


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of the examples joined, for gates that are trained by gradient.

    Attributes:
        features: ``[rows, dimension]`` float32.
        targets: ``[rows]`` the column each belongs to.
        forbidden: ``[rows, columns]`` bool, the columns that may not answer a row.
        balance: ``[columns]`` weight of each column's rows, so that every column weighs the same.
    """

    features: Tensor
    targets: Tensor
    forbidden: Tensor
    balance: Tensor

    @classmethod
    def of(cls, examples: Examples) -> Rows:
        """Join the columns, in their order."""
        targets = torch.cat([torch.full((len(f),), i) for i, f in enumerate(examples.features)])
        reads = [set(shapes) for shapes in examples.shapes]
        flat = [shape for shapes in examples.shapes for shape in shapes]
        return cls(
            torch.cat(list(examples.features)).float(),
            targets,
            ~candidates(flat, reads),
            1 / torch.bincount(targets).float(),
        )

    def batches(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Positions of one pass over all rows in random order."""
        yield from torch.split(torch.randperm(len(self.features), generator=generator), BATCH)

    def loss(self, scores: Tensor, rows: Tensor) -> Tensor:
        """Balanced cross-entropy of ``scores [batch, columns]`` among each row's candidates."""
        masked = scores.masked_fill(self.forbidden[rows], float("-inf"))
        return F.cross_entropy(masked, self.targets[rows], weight=self.balance)
