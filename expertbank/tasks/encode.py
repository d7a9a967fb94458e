"""From rows to token ids, with a tokenizer that the caller brings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from expertbank.errors import DataError, InputError
from expertbank.records import EncodedRow, Row

if TYPE_CHECKING:
    from expertbank.kinds.kind import Kind

_BATCH = 512


class FastTokenizer(Protocol):
    """What encoding needs of a Hugging Face fast tokenizer."""

    @property
    def backend_tokenizer(self) -> Any:
        """The Rust tokenizer, whose truncation and padding are state."""

    def __call__(self, text: Any, text_pair: Any = None, **options: Any) -> Any:
        """Encode a batch."""


def encode_rows(
    rows: Sequence[Row],
    tokenizer: FastTokenizer,
    kind: Kind | None,
    labels: Sequence[str],
    max_length: int,
) -> list[EncodedRow]:
    """Encode rows in the order given.

    The longer of two texts is cut first. Nothing is padded.

    Args:
        rows: rows with or without labels.
        tokenizer: its truncation and padding state is left as it was found.
        kind: what makes targets of labels; ``None`` leaves labels alone.
        labels: label names in order; a target is a place in it.
        max_length: longest sequence in tokens, special tokens included.

    Raises:
        DataError: a label that is not among ``labels``, or a row of another shape than the kind's.
        InputError: not a fast tokenizer.
    """
    texts: list[tuple[str, str | None]] = []
    spans: list[int] = []
    for row in rows:
        if kind and row.shape not in kind.shapes:
            raise DataError(f"{row.origin or 'row'}: {kind.misshapen}")
        inputs = inputs_of(row)
        texts += inputs
        spans.append(len(inputs))
    encoded = _encode(texts, tokenizer, max_length)
    places = {label: place for place, label in enumerate(labels)}
    result: list[EncodedRow] = []
    start = 0
    for row, span in zip(rows, spans, strict=True):
        part = encoded[start : start + span]
        start += span
        result.append(
            EncodedRow(
                sequences=tuple(ids for ids, _, _ in part),
                type_ids=tuple(types for _, types, _ in part),
                target=kind.target(row, places) if kind else None,
                truncated=any(cut for _, _, cut in part),
            )
        )
    return result


def inputs_of(row: Row) -> list[tuple[str, str | None]]:
    """The texts or pairs that a row is encoded as, one sequence each.

    A row with choices is one pair for each: its text (and second text) as the context, the choice
    as the pair. Blanks such as ``_`` are left as they are. Any other row is one text or pair.
    """
    if not row.choices:
        return [(row.text, row.text_pair)]
    context = row.text if row.text_pair is None else f"{row.text} {row.text_pair}"
    return [(context, choice) for choice in row.choices]


_Sequence = tuple[tuple[int, ...], tuple[int, ...], bool]


def _encode(
    texts: Sequence[tuple[str, str | None]], tokenizer: FastTokenizer, max_length: int
) -> list[_Sequence]:
    """Ids, type ids and whether it was cut, for each text or pair."""
    done: dict[int, _Sequence] = {}
    # A batch is all pairs or all single texts; the tokenizer takes no mixture.
    singles = [index for index, (_, pair) in enumerate(texts) if pair is None]
    pairs = [index for index, (_, pair) in enumerate(texts) if pair is not None]
    with _state_restored(tokenizer):
        for indices, paired in ((singles, False), (pairs, True)):
            for start in range(0, len(indices), _BATCH):
                batch = indices[start : start + _BATCH]
                output = tokenizer(
                    [texts[index][0] for index in batch],
                    [texts[index][1] for index in batch] if paired else None,
                    truncation="longest_first",
                    max_length=max_length,
                    padding=False,
                    return_attention_mask=False,
                )
                types = output.get("token_type_ids")
                for place, index in enumerate(batch):
                    ids = tuple(output["input_ids"][place])
                    done[index] = (
                        ids,
                        tuple(types[place]) if types else (0,) * len(ids),
                        bool(output.encodings[place].overflowing),
                    )
    return [done[index] for index in range(len(texts))]


@contextmanager
def _state_restored(tokenizer: FastTokenizer) -> Iterator[None]:
    """Put back the truncation and padding that encoding sets on the shared Rust tokenizer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(f"{type(tokenizer).__name__} is not a fast tokenizer; load one with Rust")
    truncation, padding = backend.truncation, backend.padding
    try:
        yield
    finally:
        if truncation is None:
            backend.no_truncation()
        else:
            backend.enable_truncation(**truncation)
        if padding is None:
            backend.no_padding()
        else:
            backend.enable_padding(**padding)
