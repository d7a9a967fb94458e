"""What a gate is fitted on, the same for every kind."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.records import RowShape
from expertbank.routing.columns import candidates
from expertbank.routing.moments import BalancedMoments

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
        blocks: moments of all columns.
        features: per column ``[rows, dimension]`` float16, on the grid.
        shapes: per column what each of its rows brings.
    """

    blocks: Sequence[Block]
    features: Sequence[Tensor]
    shapes: Sequence[Sequence[RowShape]]


def together(blocks: Sequence[Block]) -> BalancedMoments:
    """Moments of all columns, in their order."""
    order = [column for block in blocks for column in block.columns]
    means = torch.cat([block.moments.means for block in blocks])
    first, *others = (block.moments for block in blocks)
    return BalancedMoments(
        means[torch.tensor(order).argsort()],
        sum((moments.scatter for moments in others), first.scatter),
        sum(block.moments.weight for block in blocks),
    )


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of all columns joined, for what looks at each of them.

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
        """All rows of the examples."""
        reads = [set(shapes) for shapes in examples.shapes]
        return cls.joined(examples.features, examples.shapes, reads)

    @classmethod
    def joined(
        cls,
        features: Sequence[Tensor],
        shapes: Sequence[Sequence[RowShape]],
        reads: Sequence[Collection[RowShape]],
    ) -> Rows:
        """Rows by column one after the other, at least one.

        Args:
            features: per column ``[rows, dimension]``.
            shapes: per column what each of its rows brings.
            reads: per column the shapes that its experts were trained on.
        """
        targets = torch.cat([torch.full((len(own),), i) for i, own in enumerate(features)])
        return cls(
            torch.cat(list(features)).float(),
            targets,
            ~candidates([shape for column in shapes for shape in column], reads),
            1 / torch.bincount(targets, minlength=len(reads)).float(),
        )

    def batches(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Positions of one pass over all rows in random order."""
        yield from torch.split(torch.randperm(len(self.features), generator=generator), BATCH)

    def loss(self, scores: Tensor, rows: Tensor) -> Tensor:
        """Balanced cross-entropy of ``scores [batch, columns]`` among each row's candidates."""
        masked = scores.masked_fill(self.forbidden[rows], float("-inf"))
        return F.cross_entropy(masked, self.targets[rows], weight=self.balance)
