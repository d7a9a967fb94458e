"""Names of labels: in what order they stand, which there are, and which look odd."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches

from expertbank.errors import DataError
from expertbank.kinds.rules import LabelRules
from expertbank.records import Row
from expertbank.texts import as_python_prints, is_unseen, likeness, printable
from expertbank.wording import few

_SHOWN = 5
_LISTED = 20
_ZERO = Decimal(0)
_WORDS = frozenset({"", "-", "unknown", "none", "null", "nan", "removed", "auto", "all", "any"})
"""What output says in the place of a label, or could be taken to say."""


def label_text(label: str, *, among: bool = False) -> str:
    """A label as people read it: as it is, or quoted, and what does not show spelled out.

    It is quoted where it could be taken for something else: for a word that output has of its own,
    such as ``unknown``; for what stands in brackets, which no plain label does; for other text
    than it is, where it begins or ends with white space or holds characters that do not show; and
    ``among`` others for two, where it holds a comma.
    """
    plain = (
        label.isprintable()
        and label == label.strip()
        and label.casefold() not in _WORDS
        and label[0] not in '("'
        and not (among and "," in label)
    )
    if plain:
        return label
    quoted = label.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(quoted)}"'


def joined(labels: Iterable[str]) -> str:
    """Labels in a row as people read them."""
    return ", ".join(label_text(label, among=True) for label in labels)


def shown_label(raw: str, rules: LabelRules, origin: str) -> str:
    """A raw label's shown name.

    Raises:
        DataError: none of the task's labels.
    """
    shown = rules.names.get(raw, raw)
    if rules.known and shown not in rules.known:
        same = likeness(shown)
        near = [one for one in rules.known if likeness(one) == same]
        near = near or get_close_matches(shown, rules.known, n=1)
        hint = f"; did you mean {_shown(near[0], [raw])}?" if near else ""
        raise DataError(
            f"{origin}: unknown label {_shown(raw, rules.known)}; labels are "
            f"{listed(rules.known)}{hint}",
            "unknown label",
        )
    return shown


def listed(labels: Sequence[str]) -> str:
    """Labels for a message: the first twenty, and how many more there are."""
    return few([*map(repr, labels)], _LISTED)


def place_of(label: str, places: Mapping[str, int], row: Row) -> int:
    """The place of a row's label.

    Raises:
        DataError: it has none.
    """
    if label not in places:
        raise DataError(
            f"{row.origin or 'row'}: label {_shown(label, places)} is not among "
            f"{listed(list(places))}",
            "unknown label",
        )
    return places[label]


def require_known(row: Row, labels: Collection[str], known: Collection[str]) -> None:
    """Refuse a validation row with a label that no training row has.

    Raises:
        DataError: it has one.
    """
    for label in labels:
        if label not in known:
            raise DataError(
                f"{row.origin}: validation label {_shown(label, known)} does not occur in "
                f"training; training labels are {listed(list(known))}; add training rows with it, "
                "remove its rows, or leave them out with drop_labels in a task file",
                "label without a training row",
            )


def sorted_labels(labels: Collection[str]) -> list[str]:
    """Labels in natural order: numbers inside them count as numbers, so 2 stands before 10."""

    def key(label: str) -> tuple[list[tuple[int, Decimal, str]], str]:
        # Python makes no ``int`` of thousands of digits, which a label may have.
        if re.fullmatch(r"-?[0-9]+", label):
            return [(0, Decimal(label), "")], label
        parts = re.split(r"([0-9]+)", label)
        return [
            (0, Decimal(p), "") if p.isdecimal() else (1, _ZERO, p.casefold()) for p in parts if p
        ], label

    return sorted(labels, key=key)


def alike_remarks(counts: Counter[str]) -> list[str]:
    """Remarks on labels that look or mean the same, such as ``Spam`` and ``spam``, 0 and 0.0."""
    groups: dict[str, list[str]] = {}
    for label in sorted(counts):
        groups.setdefault(likeness(label), []).append(label)
    alike: Sequence[list[str]] = [group for group in groups.values() if len(group) > 1]
    remarks = [
        "labels look or mean the same and count as different classes: "
        + ", ".join(f"{_shown(label, group)} ({counts[label]} rows)" for label in group)
        + "; make them one, or join them with label_names in a task file"
        for group in alike[:_SHOWN]
    ]
    if len(alike) > _SHOWN:
        remarks.append(f"{len(alike) - _SHOWN} more sets of labels look or mean the same")
    return remarks


def _shown(label: str, beside: Iterable[str]) -> str:
    """A label with what cannot be seen of it, or tells it from one beside it, written out."""
    look = unicodedata.normalize("NFC", label)
    twins = any(one != label and unicodedata.normalize("NFC", one) == look for one in beside)
    return ascii(label) if twins or any(map(is_unseen, label)) else repr(label)


def several_remarks(counts: Counter[str]) -> list[str]:
    """Remarks on classes that look like several labels in one cell."""
    lists = [label for label in counts if label.lstrip().startswith("[") and "]" in label]
    if lists:
        return [
            f"{len(lists)} of {len(counts)} classes look like lists of labels, such as "
            f"{lists[0]!r}: for several labels a row use --kind multi_label"
            + as_python_prints(lists[0])
        ]
    for sign in (",", ";", "|"):
        joined = [label for label in counts if sign in label]
        parts = Counter(part.strip() for label in joined for part in set(label.split(sign)))
        again = [part for part, times in parts.items() if times > 1]
        if any(part in counts for part in parts) or (joined and len(again) * 2 >= len(parts)):
            return [
                f"{len(joined)} of {len(counts)} classes look like several labels in one, such as "
                f"{joined[0]!r}: if they are, use --kind multi_label --label-separator {sign!r}"
            ]
    return []
