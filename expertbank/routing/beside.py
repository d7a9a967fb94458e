"""Known rows that are in no sum of the router's: it is calibrated on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from expertbank.records import ROW_SHAPES, RowShape
from expertbank.routing.sureness import UNASKED, is_sureness, unasked


@dataclass(frozen=True, slots=True)
class Beside:
    """Rows beside the sums, or short spans of such.

    Attributes:
        steps: ``[rows, width]`` int8, on the grid.
        shapes: what each brings.
        tokens: ``[rows]`` int32 of the longest sequence of each; 0 where nobody knows.
        sureness: ``[rows]`` int16, how sure the task's expert is of its answer, see ``sureness``.
    """

    steps: Tensor
    shapes: tuple[RowShape, ...]
    tokens: Tensor
    sureness: Tensor

    @classmethod
    def none(cls, width: int) -> Beside:
        """No row."""
        nothing = torch.zeros(0, dtype=torch.int32)
        return cls(torch.zeros(0, width, dtype=torch.int8), (), nothing, unasked(0))

    def __len__(self) -> int:
        return len(self.steps)

    def first(self, count: int) -> Beside:
        """The first so many, in memory of their own."""
        parts = (self.steps, self.tokens, self.sureness)
        steps, tokens, sureness = (part[:count].clone() for part in parts)
        return Beside(steps, self.shapes[:count], tokens, sureness)

    @classmethod
    def joined(cls, parts: Iterable[Beside]) -> Beside:
        """At least one, one after the other."""
        own = list(parts)
        return cls(
            torch.cat([one.steps for one in own]),
            tuple(shape for one in own for shape in one.shapes),
            torch.cat([one.tokens for one in own]),
            torch.cat([one.sureness for one in own]),
        )

    def parted(self, sizes: list[int]) -> list[Beside]:
        """Inverse of ``joined``."""
        shapes = iter(self.shapes)
        tensors = (torch.split(t, sizes) for t in (self.steps, self.tokens, self.sureness))
        return [
            Beside(steps, tuple(next(shapes) for _ in range(len(steps))), tokens, sureness)
            for steps, tokens, sureness in zip(*tensors, strict=True)
        ]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """As a file has them, ``name`` being ``row`` or ``span``."""
        codes = [ROW_SHAPES.index(shape) for shape in self.shapes]
        found = {
            f"{name}s": self.steps,
            f"{name}_shapes": torch.tensor(codes, dtype=torch.uint8),
            f"{name}_tokens": self.tokens,
        }
        # Files of before experts were asked stay as they are, to the byte.
        if bool((self.sureness != UNASKED).any()):
            found[f"{name}_sureness"] = self.sureness
        return found

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], name: str) -> Beside:
        """Inverse of ``tensors``.

        Raises:
            KeyError, IndexError: something is missing, or a shape that there is not.
        """
        steps, tokens = tensors[f"{name}s"], tensors[f"{name}_tokens"]
        shapes = tuple(ROW_SHAPES[code] for code in tensors[f"{name}_shapes"].flatten().tolist())
        return cls(steps, shapes, tokens, tensors.get(f"{name}_sureness", unasked(len(steps))))

    def wrong(self, width: int) -> str:
        """What no rows can have, in words; empty if nothing was seen."""
        rows = len(self.shapes)
        if self.steps.dtype != torch.int8 or self.steps.shape != (rows, width):
            return "of another width or type"
        if self.tokens.dtype != torch.int32 or self.tokens.shape != (rows,):
            return "with lengths that do not fit them"
        if bool((self.tokens < 0).any()):
            return "with a length below zero"
        if not is_sureness(self.sureness, rows):
            return "with answers that nobody can be so sure of"
        return ""
