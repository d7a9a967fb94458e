"""From rows to token ids, with a tokenizer that the caller brings."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from expertbank.data.faults import Faults
from expertbank.errors import DataError, InputError
from expertbank.records import EncodedRow, Row
from expertbank.writing import end_of

if TYPE_CHECKING:
    from expertbank.kinds.kind import Kind

_BATCH = 512
_BATCH_CHARACTERS = 100_000
"""Text encoded at a time: while a token is made, a tokenizer keeps some hundred bytes of it."""


class FastTokenizer(Protocol):
    """What encoding needs of a Hugging Face fast tokenizer."""

    model_input_names: list[str]
    truncation_side: str

    @property
    def backend_tokenizer(self) -> Any:
        """The Rust tokenizer, whose truncation and padding are state."""


_OWN: WeakKeyDictionary[FastTokenizer, Any] = WeakKeyDictionary()
_OWN_LOCK = Lock()


def encode_rows(
    rows: Sequence[Row],
    tokenizer: FastTokenizer,
    kind: Kind | None,
    labels: Sequence[str],
    max_length: int,
    vocabulary: int | None = None,
) -> list[EncodedRow]:
    """Encode rows in the order given; every one of them is readable.

    The longer of two texts is cut first. Nothing is padded. A text that is too long keeps its
    first tokens; of a kind that writes a row has its last ones too, see ``EncodedRow.ending``.

    Args:
        rows: rows with or without labels.
        tokenizer: never changed, and copied on the first call with it, so threads may share it.
        kind: what makes targets of labels; ``None`` leaves labels alone.
        labels: label names in order; a target is a place in it.
        max_length: longest sequence in tokens, special tokens included.
        vocabulary: tokens that the model knows; default all.

    Of a kind that writes, a row's label becomes its continuation.

    Raises:
        DataError: a label that is not among ``labels``, a row of another shape than the kind's,
            or one that is ``unreadable``.
        InputError: not a fast tokenizer, or one without a token that ends a text.
    """
    writes = kind is not None and kind.writes
    encoded = encode_as_they_are(rows, tokenizer, kind, labels, max_length, endings=writes)
    if writes:
        encoded = _continued(rows, encoded, tokenizer)
    faults = Faults()
    for row, one in zip(rows, encoded, strict=True):
        wrong = unreadable(row, one, vocabulary)
        if wrong is not None:
            faults.note(wrong)
    faults.refuse()
    return encoded


def _continued(
    rows: Sequence[Row], encoded: Sequence[EncodedRow], tokenizer: FastTokenizer
) -> list[EncodedRow]:
    """Rows with the tokens of their labels behind them, and the one that ends a text.

    A label is encoded by itself, as the model will write it: nothing is joined with the prompt.
    """
    own, end = _own(tokenizer), end_of(tokenizer)
    labels = [row.label or "" for row in rows]
    found = own.encode_batch_fast(labels, add_special_tokens=False)
    return [
        one if row.label is None else replace(one, continuation=(*tokens.ids, end))
        for row, one, tokens in zip(rows, encoded, found, strict=True)
    ]


def unwritable(row: Row, stops: Sequence[str]) -> DataError | None:
    """Why a model whose answers end at ``stops`` cannot write the row's."""
    inside = next((stop for stop in stops if stop in (row.label or "")), None)
    if inside is None:
        return None
    return DataError(
        f"{row.origin or 'row'}: the stop text {inside!r} stands in the answer, which could never "
        "be written; leave it out of --stop, or change the row",
        "stop text",
    )


def unreadable(
    row: Row, encoded: EncodedRow, vocabulary: int | None = None, longest: int | None = None
) -> DataError | None:
    """Why a model cannot read a row.

    Args:
        row: the row.
        encoded: what it became.
        vocabulary: tokens that the model knows, numbered from 0; ``None`` for all.
        longest: tokens that it can read at once; ``None`` for any number.
    """
    where = row.origin or "row"
    if len(encoded.continuation) == 1:
        return DataError(
            f"{where}: the tokenizer makes no token of its answer, so there is nothing to write",
            "no token",
        )
    if not all(encoded.sequences):
        return DataError(
            f"{where}: the tokenizer makes no token of its text, so there is nothing to read",
            "no token",
        )
    highest = max(map(max, (*encoded.sequences, *filter(None, [encoded.continuation]))))
    if vocabulary is not None and highest >= vocabulary:
        return DataError(
            f"{where}: its text becomes token number {highest}, and the backbone has {vocabulary}, "
            "0 included; its tokenizer has tokens that the model does not know",
            "unknown token",
        )
    if longest is not None and encoded.length > longest:
        return DataError(
            f"{where}: it has {encoded.length} tokens, and the backbone can read {longest}; the "
            "bank was made with a maximum length that is too large",
            "too many tokens",
        )
    return None


def encode_as_they_are(
    rows: Sequence[Row],
    tokenizer: FastTokenizer,
    kind: Kind | None,
    labels: Sequence[str],
    max_length: int,
    *,
    endings: bool = False,
) -> list[EncodedRow]:
    """``encode_rows`` of rows that may be ``unreadable``.

    ``endings`` keeps the last tokens of texts that are cut, too.

    Raises:
        DataError: a label that is not among ``labels``, or a row of another shape than the kind's.
        InputError: not a fast tokenizer.
    """
    for row in rows:
        if kind and row.shape not in kind.shapes:
            raise DataError(f"{row.origin or 'row'}: {kind.misshapen}")
    encoded: list[_Sequence] = []
    for templated, alike in groupby(rows, lambda row: row.templated):
        texts = [text for row in alike for text in inputs_of(row)]
        encoded += _encode(texts, tokenizer, max_length, special=not templated)
    places = {label: place for place, label in enumerate(labels)}
    result: list[EncodedRow] = []
    start = 0
    for row in rows:
        part = encoded[start : start + (len(row.choices) or 1)]
        start += len(part)
        starts = tuple(one.second for one in part)
        result.append(
            EncodedRow(
                sequences=tuple(one.ids for one in part),
                type_ids=tuple(one.types for one in part),
                target=kind.target(row, places) if kind else None,
                truncated=any(one.cut for one in part),
                first=kind.first_places(row) if kind else (),
                ending=part[0].ending if endings and not row.choices else (),
                second=starts if any(starts) else (),
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


class _Sequence(NamedTuple):
    """One text or pair, encoded.

    ``ending`` are the ids cut at the other side, if they differ; ``second`` is where the second
    text begins, 0 without one.
    """

    ids: tuple[int, ...]
    types: tuple[int, ...]
    cut: bool = False
    ending: tuple[int, ...] = ()
    second: int = 0


def _encode(
    texts: Sequence[tuple[str, str | None]],
    tokenizer: FastTokenizer,
    max_length: int,
    *,
    special: bool,
) -> list[_Sequence]:
    """What becomes of each text or pair; ``special``: with special tokens around it."""
    own = _own(tokenizer)
    found: list[_Sequence] = []
    for batch in batches(texts):
        given = [text if pair is None else (text, pair) for text, pair in batch]
        found += [
            _cut(encoding, max_length, tokenizer.truncation_side == "left")
            for encoding in own.encode_batch_fast(given, add_special_tokens=special)
        ]
    if "token_type_ids" in tokenizer.model_input_names:
        return found
    return [one._replace(types=(0,) * len(one.ids)) for one in found]


def batches(texts: Sequence[tuple[str, str | None]]) -> Iterator[list[tuple[str, str | None]]]:
    """``texts`` in their order, a bounded number of them and of their characters at a time."""
    batch: list[tuple[str, str | None]] = []
    characters = 0
    for text, pair in texts:
        batch.append((text, pair))
        characters += len(text) + len(pair or "")
        if len(batch) == _BATCH or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _own(tokenizer: FastTokenizer) -> Any:
    """A Rust tokenizer like the caller's that cuts and pads nothing, and that nobody changes.

    Made when a tokenizer is first encoded with, and kept as long as it. The caller's own is never
    encoded with: its truncation and padding are state, and threads that set them collide.

    Raises:
        InputError: not a fast tokenizer.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(f"{type(tokenizer).__name__} is not a fast tokenizer; load one with Rust")
    with _OWN_LOCK:
        found = _OWN.get(tokenizer)
        if found is None:
            found = copy.deepcopy(backend)
            found.no_truncation()
            found.no_padding()
            found.encode_special_tokens = getattr(tokenizer, "split_special_tokens", False)
            _OWN[tokenizer] = found
        return found


def _cut(encoding: Any, max_length: int, from_left: bool) -> _Sequence:
    """An encoding of one text or a pair, cut to ``max_length`` tokens by ``longest_first``.

    The special tokens stay, and of each text its first tokens, or its last ``from_left``. Cut by
    the tokenizer itself, the remainders of two long texts would all be paired with each other:
    gigabytes for 20,000 characters.
    """
    ids, types = encoding.ids, encoding.type_ids
    of_text = encoding.sequence_ids  # 0 or 1, and None for a special token
    if len(ids) <= max_length:
        return _Sequence(tuple(ids), tuple(types), second=_second([*of_text]))
    texts = [[place for place, text in enumerate(of_text) if text == number] for number in (0, 1)]
    special = {place for place, text in enumerate(of_text) if text is None}
    room = max(0, max_length - len(special))
    first, last = set(special), set(special)
    for places, count in zip(texts, _shares(len(texts[0]), len(texts[1]), room), strict=True):
        first.update(places[:count])
        last.update(places[len(places) - count :])
    order, at_end = sorted(last if from_left else first), sorted(last)
    return _Sequence(
        tuple(ids[place] for place in order),
        tuple(types[place] for place in order),
        True,
        () if at_end == order else tuple(ids[place] for place in at_end),
        _second([of_text[place] for place in order]),
    )


def _second(of_text: list[int | None]) -> int:
    """Where the second text begins; 0 without one."""
    return of_text.index(1) if 1 in of_text else 0


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """Tokens that stay of two texts of these lengths: the longer one is cut first.

    Where both are cut, both get half, and the longer one what is odd; as the Rust tokenizers do.
    """
    short, long = sorted((first, second))
    long = min(long, max(short, room - short))
    if short + long > room:
        short, long = room // 2, room - room // 2
    return (short, long) if first <= second else (long, short)
