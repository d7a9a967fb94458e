"""Where a role's outputs stand among the columns of a fused projection.

Many families compute query, key and value in one product. How the three lie in its output
differs: in three blocks (GPT-2, Phi-3, ModernBERT), interleaved head by head (GPT-NeoX, BLOOM),
or in groups of some queries with one key and one value (Falcon). All of these are one pattern:
``count`` equal stretches, each with the role's block at the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise

from torch import Tensor
from torch.nn.functional import pad

from expertbank.errors import InputError


@dataclass(frozen=True, slots=True)
class Slices:
    """Some columns of a projection's output: one block in each of ``count`` equal stretches.

    Attributes:
        width: all columns of the projection; ``count · stride``.
        count: how many stretches.
        stride: columns of a stretch.
        offset: where the block begins within its stretch.
        size: columns of a block.

    Raises:
        InputError: numbers of which no projection can have such columns.
    """

    width: int
    count: int
    stride: int
    offset: int
    size: int

    def __post_init__(self) -> None:
        values = astuple(self)
        if not all(type(value) is int for value in values):
            raise InputError(f"columns of a projection are whole numbers, got {values}")
        whole = self.count >= 1 and self.stride >= 1 and self.count * self.stride == self.width
        inside = self.offset >= 0 and self.size >= 1 and self.offset + self.size <= self.stride
        if not whole or not inside:
            raise InputError(
                f"no projection has such columns: {self.width} in {self.count} stretches of "
                f"{self.stride}, each with {self.size} from {self.offset} on"
            )

    @property
    def features(self) -> int:
        """How many columns these are."""
        return self.count * self.size

    def place(self, b: Tensor) -> Tensor:
        """``b [..., features]`` among the projection's columns, zero elsewhere: ``[..., width]``.

        The columns of ``b`` keep their order, which is the role's own: head by head.
        """
        # [..., count, size]
        blocks = b.reshape(*b.shape[:-1], self.count, self.size)
        return pad(blocks, (self.offset, self.stride - self.offset - self.size)).flatten(-2)

    def take(self, output: Tensor) -> Tensor:
        """These columns of ``output [..., width]``: ``[..., features]``."""
        stretches = output.reshape(*output.shape[:-1], self.count, self.stride)
        return stretches[..., self.offset : self.offset + self.size].flatten(-2)


def check_apart(columns: Sequence[Slices]) -> None:
    """Refuse columns that cannot belong to different roles of one projection.

    Raises:
        InputError: other stretches, or blocks that overlap.
    """
    if len({(one.width, one.count, one.stride) for one in columns}) > 1:
        raise InputError("the roles of one fused projection divide its columns differently")
    ordered = sorted(columns, key=lambda one: one.offset)
    for left, right in pairwise(ordered):
        if left.offset + left.size > right.offset:
            raise InputError("two roles of one fused projection claim the same columns")
