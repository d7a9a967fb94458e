"""What unknown scores known rows have, by the column that they go to and by their length.

A row's p-value is the share of known rows of its category that look at least as strange. The
category is decided by the row alone (the column it is sent to, the bin of its length), so among
known rows that are drawn as those here were, at most a share ``a`` of every category has a p-value
up to ``a``.
(Conformal prediction by categories: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random
World", 2005, section 4.5.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

BINS = (8, 12, 16, 24, 32, 48)
"""Most tokens of all bins of length but the last."""
FEWEST = 40
"""A category with fewer known rows is judged with others: of its length, or of any."""
ANY = -1
"""Any column; any length, where known rows are whole ones."""


class Category(NamedTuple):
    """Rows that are sent to a column and have a length, see ``ANY``."""

    column: int
    bin: int


def bin_of(tokens: Tensor) -> Tensor:
    """``[rows]`` int64 number of the bin of ``tokens [rows]``; ``ANY`` where they are 0."""
    found = torch.bucketize(tokens.long(), torch.tensor(BINS))
    return found.masked_fill(tokens == 0, ANY)


def bin_name(number: int) -> str:
    """A bin of length as people read it."""
    if number == ANY:
        return "any"
    if number == len(BINS):
        return f"over {BINS[-1]} tokens"
    return f"{BINS[number - 1] + 1 if number else 1} to {BINS[number]} tokens"


@dataclass(frozen=True)
class KnownScores:
    """Scores of known rows that sat out of the fit.

    Attributes:
        scores: ``[scores]`` float32, by category one after the other, each rising.
        counts: how many each category has.
    """

    scores: Tensor
    counts: Mapping[Category, int]

    @classmethod
    def of(cls, scores: Tensor, columns: Tensor, tokens: Tensor, whole: Tensor) -> KnownScores:
        """Of known rows.

        Args:
            scores: ``[rows]``.
            columns: ``[rows]`` the column that each is sent to.
            tokens: ``[rows]`` its length, 0 where nobody knows.
            whole: ``[rows]`` bool, whether it is no span of another row.
        """
        bins = bin_of(tokens)
        parts: dict[Category, Tensor] = {}
        for number in range(len(BINS) + 1):
            here = bins == number
            parts[Category(ANY, number)] = scores[here]
            for column in set(columns[here].tolist()):
                parts[Category(column, number)] = scores[here & (columns == column)]
        parts[Category(ANY, ANY)] = scores[whole]
        for column in set(columns[whole].tolist()):
            parts[Category(column, ANY)] = scores[whole & (columns == column)]
        kept = {
            category: part.float().sort().values
            for category, part in sorted(parts.items())
            if len(part) >= FEWEST or category == (ANY, ANY)
        }
        return cls(
            torch.cat(list(kept.values())), {category: len(p) for category, p in kept.items()}
        )

    @cached_property
    def _parts(self) -> Mapping[Category, Tensor]:
        parts = torch.split(self.scores, list(self.counts.values()))
        return dict(zip(self.counts, parts, strict=True))

    def rare(
        self, scores: Tensor, columns: Tensor, tokens: Tensor, level: float
    ) -> tuple[Tensor, Tensor]:
        """P-values, ``[rows]`` float64, and which of them are rare, ``[rows]`` bool.

        Those up to ``level`` are. Where there are too few known rows for any to be, it is what is
        stranger than all of them.

        Args:
            scores: ``[rows]``.
            columns: ``[rows]`` the column that each is sent to.
            tokens: ``[rows]`` lengths, 0 where nobody knows.
            level: the largest p-value that is rare.
        """
        bins = bin_of(tokens)
        found = torch.empty(len(scores), dtype=torch.float64)
        limit = torch.empty_like(found)
        for column, number in set(zip(columns.tolist(), bins.tolist(), strict=True)):
            here = (columns == column) & (bins == number)
            known = self._like(Category(column, number))
            below = torch.searchsorted(known, scores[here].float())
            found[here] = (1 + len(known) - below).double() / (len(known) + 1)
            limit[here] = max(level, 1 / (len(known) + 1))
        return found, found <= limit

    def _like(self, category: Category) -> Tensor:
        """Known rows to compare with: of the category, of its length, of its column, or all."""
        column, number = category
        for wanted in (category, Category(ANY, number), Category(column, ANY)):
            if wanted in self._parts:
                return self._parts[wanted]
        return self._parts[Category(ANY, ANY)]

    def only(self, columns: Sequence[int]) -> KnownScores:
        """Without what other columns have of their own."""
        places = {ANY: ANY, **{column: place for place, column in enumerate(columns)}}
        kept = {
            Category(places[category.column], category.bin): part
            for category, part in self._parts.items()
            if category.column in places
        }
        ordered = dict(sorted(kept.items()))
        counts = {category: len(part) for category, part in ordered.items()}
        return KnownScores(torch.cat(list(ordered.values())), counts)

    def facts(self) -> list[list[int]]:
        """Column, bin and count of every category, as plain JSON."""
        return [[*category, count] for category, count in self.counts.items()]

    @classmethod
    def read(cls, scores: Tensor, facts: Any) -> KnownScores:
        """Inverse of ``facts``.

        Raises:
            TypeError, ValueError: they are none, or do not fit the scores.
        """
        counts = {Category(int(column), int(number)): int(count) for column, number, count in facts}
        sound = scores.dtype == torch.float32 and scores.shape == (sum(counts.values()),)
        if not sound or Category(ANY, ANY) not in counts or min(counts.values()) < 1:
            raise ValueError("scores of known rows do not fit their counts")
        return cls(scores, counts)
