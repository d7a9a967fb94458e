"""Rows while they come in: each once, a bounded number, and no more of each than is needed."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from expertbank.records import EncodedRow, Row

SHOWN = 500
"""Characters of a text that are kept to be shown."""


@dataclass(slots=True)
class Collected:
    """One distinct row.

    Attributes:
        digest: of the row.
        index: of the first such row in the input.
        text: its beginning.
        text_pair: that of its second text.
        tasks: whose experts the router chose for it.
        tokens: ids and type ids of each of its sequences, packed.
        place: where the whole row is kept, if it is.
        count: how often it stood in the input.
    """

    digest: str
    index: int
    text: str
    text_pair: str | None
    tasks: tuple[str, ...]
    tokens: tuple[tuple[array[int], array[int]], ...]
    place: int | None = None
    count: int = 1

    @property
    def length(self) -> int:
        """Tokens of its longest sequence."""
        return max(len(ids) for ids, _ in self.tokens)

    def encoded(self) -> EncodedRow:
        """The row as the backbone reads it."""
        return EncodedRow(
            tuple(tuple(ids) for ids, _ in self.tokens),
            tuple(tuple(types) for _, types in self.tokens),
        )


class DistinctRows:
    """Distinct rows by digest, at most ``most`` of them.

    Which ones are kept of more does not hang on their order. Of those that are, every occurrence
    is counted.

    Args:
        most: distinct rows that are kept; of more, those whose digests come first.
    """

    def __init__(self, most: int) -> None:
        self.total = 0
        """Rows that came, kept or not."""
        self._most = most
        self._found: dict[str, Collected] = {}
        self._end: str | None = None
        """The digest from which on none is kept."""

    def counted(self, digest: str) -> bool:
        """Count a row; whether that is all that is needed: it is known, or none to be kept."""
        self.total += 1
        known = self._found.get(digest)
        if known is not None:
            known.count += 1
        return known is not None or (self._end is not None and digest >= self._end)

    def add(
        self,
        row: Row,
        encoded: EncodedRow,
        digest: str,
        index: int,
        tasks: tuple[str, ...],
        place: int | None,
    ) -> None:
        """Keep a row that ``counted`` asks for."""
        tokens = tuple(
            (array("I", ids), array("H", types))
            for ids, types in zip(encoded.sequences, encoded.type_ids, strict=True)
        )
        pair = None if row.text_pair is None else _beginning(row.text_pair)
        self._found[digest] = Collected(
            digest, index, _beginning(row.text), pair, tasks, tokens, place
        )
        if len(self._found) > 2 * self._most:
            self._drop()

    def _drop(self) -> None:
        order = sorted(self._found)
        if len(order) > self._most:
            self._end = order[self._most]
            self._found = {digest: self._found[digest] for digest in order[: self._most]}

    def __iter__(self) -> Iterator[Collected]:
        """The rows by digest."""
        self._drop()
        return iter([self._found[digest] for digest in sorted(self._found)])


def _beginning(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
