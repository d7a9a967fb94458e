"""The rows that wait, in the order in which they fall due, and the choice of the next batch.

A request may take every fourth place: its first row falls due now, the next when four more rows
were answered, whoever's, and so on. So a request of a thousand rows does not stand in front of one
that comes a moment later, and yet nothing starves: what fell due is in front of whatever comes
after. Where fewer than four large requests wait, a small one is in the next batch; else it waits
its turn, as in any queue.

A batch always takes the row that stands first, and then, of the rows just behind it, those whose
length is nearest to its own, since every row of a pass costs as much as the longest. A row whose
padding would cost more than it saves is left to a later pass.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Generic, TypeVar

SHARES = 4
"""A request may take one in so many places."""
WINDOW = 16
"""Batches' worth of rows among which rows of one length are sought."""

Owner = TypeVar("Owner")
"""Whom a row belongs to."""
Turn = tuple[int, int]
"""How many rows are answered when a row falls due, and its number among all that ever came."""


@dataclass(frozen=True, slots=True, eq=False)
class Place(Generic[Owner]):
    """One row that waits.

    Attributes:
        owner: the request it belongs to.
        index: its position in that.
        length: tokens in its longest sequence.
        sequences: how many it has.
        tokens: real tokens in all of them.
        together: rows of one batch must agree in this.
        turn: where it stands.
    """

    owner: Owner
    index: int
    length: int
    sequences: int
    tokens: int
    together: int
    turn: Turn


@dataclass(frozen=True, slots=True)
class Size:
    """What a row weighs: tokens in its longest sequence, sequences, real tokens in all of them."""

    length: int
    sequences: int
    tokens: int


class Line(Generic[Owner]):
    """Rows that wait. Not safe for threads by itself.

    Args:
        max_rows: rows of a batch.
        max_tokens: tokens of a batch, padding included, unless one row alone has more.
    """

    def __init__(self, max_rows: int, max_tokens: int) -> None:
        self._max_rows = max_rows
        self._max_tokens = max_tokens
        self._places: list[Place[Owner]] = []
        self._taken = 0
        self._came = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def enough(self) -> bool:
        """Whether the rows that wait fill a batch."""
        rows = self._places[: self._max_rows]
        return len(rows) == self._max_rows or cost(rows) >= self._max_tokens

    def ahead(self, rows: int) -> int:
        """How many rows stand before the last of so many that would come now."""
        due = self._taken + SHARES * max(0, rows - 1)
        return bisect_right(self._places, (due, self._came), key=_turn)

    def add(self, owner: Owner, sizes: Sequence[Size], together: int) -> None:
        """Let the rows of a request join."""
        for index, size in enumerate(sizes):
            turn = (self._taken + SHARES * index, self._came)
            self._came += 1
            place = Place(owner, index, size.length, size.sequences, size.tokens, together, turn)
            insort(self._places, place, key=_turn)

    def remove(self, owner: Owner) -> int:
        """Take all rows of a request out; returns how many there were."""
        before = len(self._places)
        self._places = [place for place in self._places if place.owner is not owner]
        return before - len(self._places)

    def take(self, fixed: float = inf) -> list[Place[Owner]]:
        """The next batch, shortest row first; empty where nothing waits.

        Args:
            fixed: what a pass costs whatever is in it, in tokens. A row is left to a later pass
                where its padding would cost more than its part in that.
        """
        if not self._places:
            return []
        first = self._places[0]
        window = self._places[: WINDOW * self._max_rows]
        alike = [place for place in window if place.together == first.together]
        alike.sort(key=lambda place: (place.length, place.turn))
        batch = self._around(alike, alike.index(first), fixed)
        taken = set(map(id, batch))
        self._places[: len(window)] = [place for place in window if id(place) not in taken]
        self._taken += len(batch)
        return batch

    def _around(
        self, alike: Sequence[Place[Owner]], start: int, fixed: float
    ) -> list[Place[Owner]]:
        """Rows about ``start`` of rows by length, each time the one that adds least padding."""
        low = high = start
        sequences, width = alike[start].sequences, alike[start].length
        while (rows := high - low + 1) < self._max_rows:
            found: list[tuple[int, bool, int, int]] = []
            if low > 0:
                row = alike[low - 1]
                padding = (width - row.length) * row.sequences
                found.append((padding, False, sequences + row.sequences, width))
            if high + 1 < len(alike):
                row = alike[high + 1]
                padding = (row.length - width) * sequences
                found.append((padding, True, sequences + row.sequences, row.length))
            fitting = [one for one in found if one[2] * one[3] <= self._max_tokens]
            if not fitting:
                break
            padding, upwards, sequences, width = min(fitting)
            if padding * rows > fixed:
                break
            low, high = (low, high + 1) if upwards else (low - 1, high)
        return list(alike[low : high + 1])


def _turn(place: Place[Owner]) -> Turn:
    return place.turn


def cost(places: Iterable[Place[Owner]]) -> int:
    """Tokens of a pass over these rows, padding included."""
    rows = list(places)
    return sum(place.sequences for place in rows) * max((place.length for place in rows), default=0)
