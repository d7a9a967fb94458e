"""Short spans of encoded rows: what a row looks like when less of it is said."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from random import Random

from expertbank.records import EncodedRow

Run = tuple[int, int]
"""First token of a stretch of text, and the one after its last."""
BEGINNINGS = 0.5
"""Share of spans that begin where their texts do, as short texts and those that were cut off."""


def span_of(row: EncodedRow, tokens: int, special: Collection[int], random: Random) -> EncodedRow:
    """The row with at most ``tokens`` tokens in each sequence, the special ones among them.

    Of each text one stretch is kept, from its beginning on or, in every second row, from a random
    place; of two texts the longer is cut first, as a tokenizer would. A text keeps one token at
    least, and special tokens stay. What the sequences of a row share, such as the text before every
    choice, is cut alike in all of them.

    Args:
        row: encoded, with special tokens where its family has them.
        tokens: most that a sequence may have.
        special: ids of special tokens.
        random: decides where the stretches begin.
    """
    most = max(len(_runs(sequence, special)) for sequence in row.sequences)
    anywhere = random.random() >= BEGINNINGS
    begins = [random.random() if anywhere else 0.0 for _ in range(most)]
    cut = [_cut(sequence, tokens, special, begins) for sequence in row.sequences]
    return replace(
        row,
        sequences=tuple(
            tuple(s[i] for i in places) for s, places in zip(row.sequences, cut, strict=True)
        ),
        type_ids=tuple(
            tuple(t[i] for i in places) for t, places in zip(row.type_ids, cut, strict=True)
        ),
        ending=(),
        second=tuple(
            sum(place < start for place in places)
            for start, places in zip(row.second, cut, strict=False)  # empty where no text is second
        ),
    )


def _cut(
    sequence: Sequence[int], tokens: int, special: Collection[int], begins: Sequence[float]
) -> list[int]:
    """Places of a sequence's tokens that stay; ``begins`` are shares of what is cut off."""
    runs = _runs(sequence, special)
    sizes = [end - start for start, end in runs]
    over = len(sequence) - tokens
    while over > 0 and max(sizes, default=0) > 1:
        sizes[sizes.index(max(sizes))] -= 1
        over -= 1
    kept: set[int] = set()
    for (start, end), size, share in zip(runs, sizes, begins, strict=False):
        begin = start + int(share * (end - start - size + 1))
        kept.update(range(begin, begin + size))
    return [i for i, token in enumerate(sequence) if i in kept or token in special]


def _runs(sequence: Sequence[int], special: Collection[int]) -> list[Run]:
    """Stretches of tokens between special ones."""
    found: list[Run] = []
    start: int | None = None
    for place, token in enumerate([*sequence, None]):
        inside = token is not None and token not in special
        if inside and start is None:
            start = place
        elif not inside and start is not None:
            found.append((start, place))
            start = None
    return found
