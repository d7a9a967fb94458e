"""How long rows are for a backbone, with its tokenizer file alone: no torch, no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from expertbank.data.encode import batches, inputs_of
from expertbank.errors import InputError
from expertbank.records import Row
from expertbank.references import cached, local_path

LONGEST_COUNTED = 50_000
"""Characters of a text that are counted; what comes after them is cut off at any length."""

_FILE = "tokenizer.json"

Text = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class LengthCounter:
    """Takes texts and pairs apart as a backbone does, to count them.

    Attributes:
        unit: ``tokens``, special tokens included, or ``words`` where there is no tokenizer.
        parts: for each text or pair of a batch what it becomes: token ids, or numbers of words.
    """

    unit: str
    parts: Callable[[Sequence[Text]], list[Sequence[int]]]

    def of_rows(self, rows: Iterable[Row]) -> Iterator[tuple[Sequence[int], ...]]:
        """What each row's sequences become."""
        inputs = [inputs_of(row) for row in rows]
        texts = [_cut(text) for part in inputs for text in part]
        parts = chain.from_iterable(map(self.parts, batches(texts)))
        for part in inputs:
            yield tuple(islice(parts, len(part)))


def length_counter(reference: str, revision: str | None = None) -> LengthCounter:
    """A counter with the tokenizer of a backbone, or of words where it cannot be had offline.

    Args:
        reference: a folder, or a Hub name whose files are installed or were downloaded before.
        revision: the Hub's commit, where one is recorded.

    Raises:
        InputError: the tokenizer file is malformed.
    """
    path = tokenizer_file(reference, revision)
    if path is None:
        return LengthCounter("words", _words)
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        # The library raises bare exceptions for files it cannot read.
        raise InputError(f"{path}: not a tokenizer file: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def tokens(texts: Sequence[Text]) -> list[Sequence[int]]:
        encoded = tokenizer.encode_batch(
            [text if pair is None else (text, pair) for text, pair in texts]
        )
        return [item.ids for item in encoded]

    return LengthCounter("tokens", tokens)


def tokenizer_file(reference: str, revision: str | None = None) -> Path | None:
    """The backbone's ``tokenizer.json``, if it is on this machine."""
    try:
        folder = local_path(reference)
    except InputError:
        return None
    if folder is None:
        place = cached(reference, revision, _FILE)
        return None if place is None else place.path / _FILE
    return folder / _FILE if (folder / _FILE).is_file() else None


def _words(texts: Sequence[Text]) -> list[Sequence[int]]:
    return [range(len(text.split()) + len((pair or "").split())) for text, pair in texts]


def _cut(text: Text) -> Text:
    first, second = text
    return first[:LONGEST_COUNTED], None if second is None else second[:LONGEST_COUNTED]
