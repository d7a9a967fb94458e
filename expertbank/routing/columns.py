"""What a router chooses among: columns of experts, and which columns may answer which rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from expertbank.records import ROW_SHAPES, RowShape


@dataclass(frozen=True, slots=True)
class Member:
    """One expert a router can choose, pinned by digest.

    ``column`` is the gate's output that stands for it; the experts of one group share one.
    ``reads`` are the shapes of row it was trained on. ``group`` is the name of that group; ``None``
    for an expert that stands alone, and in files of format 1, which do not say it.
    """

    id: str
    digest: str
    task: str
    kind: str
    column: int
    reads: tuple[RowShape, ...]
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One expert that a router is to be fitted over.

    Experts of one ``group`` answer together: the gate learns them as one.
    """

    id: str
    digest: str
    task: str
    kind: str
    group: str | None

    @property
    def column(self) -> tuple[str | None, str]:
        """What the gate chooses: the group, or the task alone."""
        return (self.group, "") if self.group else (None, self.task)


E = TypeVar("E", bound=Entry)


def by_column(entries: Sequence[E]) -> list[list[E]]:
    """The entries of each column, all in the order of their digests, whatever order they came in.

    So the same members give the same router to the bit.
    """
    columns: dict[tuple[str | None, str], list[E]] = {}
    for entry in sorted(entries, key=lambda entry: entry.digest):
        columns.setdefault(entry.column, []).append(entry)
    return list(columns.values())


def members(
    columns: Sequence[Sequence[Entry]], reads: Mapping[str, tuple[RowShape, ...]]
) -> tuple[Member, ...]:
    """The members of a router, in the order of their digests; ``reads`` is by expert."""
    found = [
        Member(one.id, one.digest, one.task, one.kind, column, reads[one.id], one.group)
        for column, entries in enumerate(columns)
        for one in entries
    ]
    return tuple(sorted(found, key=lambda member: member.digest))


def masks(reads: Sequence[Collection[RowShape]]) -> dict[RowShape, Tensor]:
    """By shape of row, ``[columns]`` bool: the columns that may answer such rows.

    A row with choices can go only to experts that read choices, any other row only to the
    others. Among those, a row goes to experts trained on its shape (one text, or a pair), as
    long as there is one: length and pairing would otherwise outweigh what a text is about.
    All columns where none can read the row.

    Args:
        reads: the shapes that each column's experts were trained on.
    """
    found = {}
    for shape in ROW_SHAPES:
        exact = torch.tensor([shape in column for column in reads])
        alike = torch.tensor([("choices" in column) == (shape == "choices") for column in reads])
        found[shape] = next((m for m in (exact, alike) if bool(m.any())), torch.ones_like(exact))
    return found


def candidates(shapes: Sequence[RowShape], reads: Sequence[Collection[RowShape]]) -> Tensor:
    """``[rows, columns]`` bool: which columns may answer rows of these shapes, see ``masks``."""
    allowed = masks(reads)
    return torch.stack([allowed[shape] for shape in shapes])


def competing(reads: Sequence[Collection[RowShape]]) -> list[list[int]]:
    """Columns in blocks: two are in one block if some row may choose between them.

    Args:
        reads: the shapes that each column's experts were trained on.
    """
    blocks: list[set[RowShape]] = []
    for shapes in {frozenset(column) for column in reads}:
        touched = [block for block in blocks if block & shapes]
        blocks = [block for block in blocks if not block & shapes]
        blocks.append(set(shapes).union(*touched))
    found = [[i for i, column in enumerate(reads) if block & set(column)] for block in blocks]
    return sorted(found)
