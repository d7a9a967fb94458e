"""Rows made ready to be answered: parted from those that nobody can answer, and encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from expertbank.backbones.forks import computing
from expertbank.data.encode import encode_as_they_are, unreadable
from expertbank.errors import InputError
from expertbank.models.routed import RoutedModel
from expertbank.records import EncodedRow, Row
from expertbank.workflows.answering.decision import Decision, unanswerable
from expertbank.workflows.answering.prediction import Question

CHUNK = 1024
"""Rows encoded and answered at a time: memory does not grow with the input."""
CHUNK_CHARACTERS = 4_000_000
"""Text encoded and answered at a time, but for one row that is longer."""

Numbered = tuple[int, Row]
"""A row and its position in the input."""


class Reader:
    """Encodes rows as the backbone reads them. Any thread may, while others answer.

    Args:
        model: whose backbone reads.
    """

    def __init__(self, model: RoutedModel) -> None:
        self.model = model

    def questions(self, rows: Sequence[Row], decision: Decision) -> list[Question | InputError]:
        """Rows ready to be answered; in the place of one that cannot be, what is wrong.

        Rows are numbered from 0. Any thread may do this while others answer.

        Args:
            rows: canonical rows, see ``as_rows``.
            decision: who answers them.
        """
        found: dict[int, Question | InputError] = {}
        good: list[Numbered] = []
        for index, row in enumerate(rows):
            wrong = unanswerable(row, decision)
            if wrong is None:
                good.append((index, row))
            else:
                found[index] = wrong
        asked = self.asked(good, decision)
        found.update((index, one) for (index, _), one in zip(good, asked, strict=True))
        return [found[index] for index in range(len(rows))]

    def asked(
        self, numbered: Sequence[Numbered], decision: Decision
    ) -> list[Question | InputError]:
        """Rows that ``decision`` allows, encoded, or why the backbone cannot read them."""
        encoded = self._encode([row for _, row in numbered], endings=decision.writes)
        return [
            unreadable(row, one, *self._limits) or Question(row, one, decision, index)
            for (index, row), one in zip(numbered, encoded, strict=True)
        ]

    @computing()
    def _encode(self, rows: Sequence[Row], *, endings: bool) -> list[EncodedRow]:
        tokenizer, length = self.model.backbone.tokenizer, self.model.spec.max_length
        return encode_as_they_are(rows, tokenizer, None, (), length, endings=endings)

    @cached_property
    def _limits(self) -> tuple[int, int | None]:
        """Tokens that the backbone knows, and how many of them it can read at once."""
        return self.model.backbone.vocabulary, self.model.backbone.longest_sequence


def chunked(
    numbered: Iterator[tuple[int, Row | InputError]],
    decision: Decision,
    on_bad: Callable[[InputError], None] | None,
    most: int,
) -> tuple[list[Numbered], InputError | None, bool]:
    """The next rows, the error that ends them, and whether the input ended."""
    chunk: list[Numbered] = []
    characters = 0
    while len(chunk) < most and characters < CHUNK_CHARACTERS:
        following = next(numbered, None)
        if following is None:
            return chunk, None, True
        index, row = following
        wrong = row if isinstance(row, InputError) else unanswerable(row, decision)
        if isinstance(row, Row) and wrong is None:
            chunk.append((index, row))
            characters += len(row.text) + len(row.text_pair or "") + sum(map(len, row.choices))
        elif wrong is not None and on_bad is None:
            return chunk, wrong, True
        elif wrong is not None and on_bad is not None:
            on_bad(wrong)
    return chunk, None, False


def readable(
    asked: Sequence[Question | InputError],
    on_bad: Callable[[InputError], None] | None,
) -> tuple[list[Question], InputError | None]:
    """The rows that the backbone can read, and the error of the first other that ends them."""
    kept: list[Question] = []
    for one in asked:
        if isinstance(one, Question):
            kept.append(one)
        elif on_bad is None:
            return kept, one
        else:
            on_bad(one)
    return kept, None
