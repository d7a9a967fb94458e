"""What is odd about data and yet no reason to refuse it: sentences for people."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from expertbank.data.formats import Record
from expertbank.data.splits import normalised_input
from expertbank.kinds.labels import listed
from expertbank.records import Row
from expertbank.texts import Repeated
from expertbank.wording import count

if TYPE_CHECKING:
    from expertbank.kinds.kind import Kind

ID_COLUMNS = frozenset({"id", "uid", "guid", "uuid", "row_id", "example_id", "pair_id", "pairid"})
"""Names of columns whose values name rows."""
_SHOWN = 5


class RepeatedIds:
    """Watches the identifier columns of one split for values that stand twice.

    Ids are not read by training, so this is no reason to refuse the data; but it often means that
    files were joined twice.
    """

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], str] = {}
        self._repeated: dict[str, list[str]] = {}
        self._counts: Counter[str] = Counter()

    def see(self, record: Record, columns: Collection[str]) -> None:
        """Take one record in."""
        for column in columns:
            value = record.values.get(column)
            if value is None or value == "" or isinstance(value, Repeated):
                continue
            before = self._first.setdefault((column, str(value)), record.origin)
            if before != record.origin:
                self._counts[column] += 1
                shown = self._repeated.setdefault(column, [])
                if len(shown) < _SHOWN:
                    shown.append(f"{value!r} ({record.origin}, first {before})")

    def remarks(self) -> list[str]:
        """A sentence for each column."""
        return [
            f"column {column!r} repeats ids: {', '.join(shown)}"
            + (f" and {more} more" if (more := self._counts[column] - len(shown)) else "")
            for column, shown in self._repeated.items()
        ]


def left_out_remarks(counts: Mapping[str, int]) -> list[str]:
    """Rows that were read and take no part, though nobody asked for it."""
    words = {
        "duplicates": "that repeat another one",
        "leaked": "of training that also stand in validation",
    }
    return [
        f"{count(counts[key], 'row')} {what} left out" for key, what in words.items() if counts[key]
    ]


def dropped_remarks(counts: Mapping[str, int], drop: Sequence[str | None]) -> list[str]:
    """Labels whose rows were to be left out, where there was no such row: a slip of the pen."""
    named = [label for label in drop if label is not None]
    if not named or counts["dropped_unlabelled"]:
        return []
    return [
        f"drop_labels left out no row: none has {listed(named)}; they are labels as the data "
        "writes them, before label_names"
    ]


def contradiction_remarks(rows: Iterable[Row], kind: Kind) -> list[str]:
    """Texts that stand with two answers: nothing can be learned from them."""
    if kind.answers_are_values:
        return []
    first: dict[bytes, Row] = {}
    differing: Counter[bytes] = Counter()
    example: tuple[Row, Row] | None = None
    rows_of: Counter[bytes] = Counter()
    for row in rows:
        key = normalised_input(row)
        before = first.setdefault(key, row)
        rows_of[key] += 1
        if before.label != row.label:
            differing[key] += 1
            example = example or (before, row)
    if example is None:
        return []
    one, other = example
    number = sum(rows_of[key] for key in differing)
    texts = f"{len(differing):,} texts stand" if len(differing) > 1 else "1 text stands"
    return [
        f"{number:,} rows contradict each other: {texts} with more than one label, such as "
        f"{one.origin} ({one.label!r}) and {other.origin} ({other.label!r}); keep one of each"
    ]


def class_remarks(
    labels: Sequence[str], kind: Kind, train: Sequence[Row], validation: Sequence[Row]
) -> list[str]:
    """Classes that no row shows."""
    remarks = []
    for rows, what, then in (
        (train, "training", "the expert cannot learn them; raise --limit or add rows"),
        (validation, "validation", "how well they are answered is not measured"),
    ):
        shown = {label for row in rows for label in kind.counted(row)}
        absent = [label for label in labels if label not in shown]
        if absent:
            remarks.append(f"labels without a {what} row: {listed(absent)}; {then}")
    return remarks


def cut_remark(cut: int, rows: int, limit: int, kind: Kind) -> str:
    """That texts are longer than what is read of them."""
    what = "are cut"
    if kind.writes:
        what = "are cut: their last tokens are written on, and their first ones are routed by"
    return (
        f"{cut:,} of {rows:,} rows are longer than {limit} tokens and {what}; "
        "only a new bank can read more of them (--max-length)"
    )


class SameTokens:
    """Watches for different texts that are the same to the model."""

    def __init__(self) -> None:
        self._first: dict[bytes, tuple[Row, bytes]] = {}
        self._several: set[bytes] = set()
        self._rows = 0
        self._same = 0
        self._example: tuple[Row, Row] | None = None

    def see(self, row: Row, sequences: Sequence[Sequence[int]]) -> None:
        """Take one row in, with the token ids that the model reads of it."""
        self._rows += 1
        key = hashlib.sha256(repr([list(one) for one in sequences]).encode()).digest()
        text = normalised_input(row)
        before, its_text = self._first.setdefault(key, (row, text))
        if its_text != text:
            self._same += 1 if key in self._several else 2
            self._several.add(key)
            self._example = self._example or (before, row)

    def remarks(self) -> list[str]:
        """A sentence, if there were any."""
        if self._example is None:
            return []
        one, other = self._example
        return [
            f"{self._same:,} of {self._rows:,} rows become the same tokens as another text, such "
            f"as {one.origin} and {other.origin}: the backbone's tokenizer drops or does not know "
            "what tells them apart, such as accents or emoji, or they differ only in what is cut "
            "off at the maximum length"
        ]
