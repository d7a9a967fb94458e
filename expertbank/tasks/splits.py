"""Splits by hash: the same rows give the same split, in whatever order or file they come.

No random generator is involved. Every choice follows ``sha256(seed:digest)``, where the digest
is taken over a row's content.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace

from expertbank.errors import DataError
from expertbank.records import Row


def order_key(row: Row, seed: int | str) -> str:
    """Place of a row in the order that belongs to ``seed``."""
    return hashlib.sha256(f"{seed}:{row.digest}".encode()).hexdigest()


def canonical_order(rows: Sequence[Row], seed: int | str) -> list[Row]:
    """Rows in hash order."""
    return sorted(rows, key=lambda row: order_key(row, seed))


def take(rows: Sequence[Row], limit: int | None, seed: int | str) -> list[Row]:
    """At most ``limit`` rows, the first in hash order; ``None`` takes all."""
    return canonical_order(rows, seed)[:limit]


def normalised_input(row: Row) -> tuple[Hashable, ...]:
    """What the model reads, without case and runs of white space: equal for near copies."""

    def plain(text: str) -> str:
        return " ".join(text.casefold().split())

    return (
        plain(row.text),
        plain(row.text_pair) if row.text_pair is not None else None,
        tuple(plain(choice) for choice in row.choices),
    )


def without_duplicates(rows: Sequence[Row]) -> list[Row]:
    """The first of each set of equal rows, with the groups of all of them."""
    kept: dict[str, Row] = {}
    for row in rows:
        first = kept.setdefault(row.digest, row)
        if set(row.group) - set(first.group):
            kept[row.digest] = replace(first, group=tuple(sorted({*first.group, *row.group})))
    return list(kept.values())


def without_leaks(train: Sequence[Row], validation: Sequence[Row]) -> list[Row]:
    """The rows of ``train`` whose normalised input does not stand in ``validation``."""
    seen = {normalised_input(row) for row in validation}
    return [row for row in train if normalised_input(row) not in seen]


def components(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that must stay together: linked by a group value or by the same normalised input."""
    parent = list(range(len(rows)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first_with: dict[Hashable, int] = {}
    for index, row in enumerate(rows):
        links: list[Hashable] = [normalised_input(row), *row.group]
        for link in links:
            parent[root(index)] = root(first_with.setdefault(link, index))
    parts: dict[int, list[Row]] = {}
    for index, row in enumerate(rows):
        parts.setdefault(root(index), []).append(row)
    return list(parts.values())


def split(
    rows: Sequence[Row], share: float, seed: int | str, where: str = "data"
) -> tuple[list[Row], list[Row]]:
    """Hold out about ``share`` of the rows, whole components at a time.

    Components are taken in hash order while they fit; if none fits, the smallest that may go is
    taken. A component stays behind if no row of one of its labels would be left without it, so
    every label can be trained on. Exact duplicates are dropped first.

    Args:
        rows: rows in any order.
        share: fraction to hold out, above 0 and below 1.
        seed: what the hash order belongs to.
        where: what to call the rows in messages.

    Returns:
        The rows that stay and the rows held out, both in hash order.

    Raises:
        DataError: no component can be held out.
    """
    unique = without_duplicates(rows)
    parts = sorted(
        ((min(order_key(row, seed) for row in part), part) for part in components(unique)),
        key=lambda item: item[0],
    )
    left = Counter(row.label for row in unique)
    room = share * len(unique)
    held: list[Row] = []
    rest: list[Row] = []
    spare: list[tuple[int, str, list[Row]]] = []
    for key, part in parts:
        labels = Counter(row.label for row in part)
        may_go = all(left[label] > count for label, count in labels.items())
        if may_go and len(held) + len(part) <= room:
            held += part
            left -= labels
        else:
            rest += part
            if may_go:
                spare.append((len(part), key, part))
    if not held:
        if not spare:
            raise DataError(
                f"{where}:1: {len(unique)} rows with {len(left)} labels cannot be split: whatever "
                "group of linked rows is held out, some label keeps no training row; check the "
                "label column, add rows, or give a validation file"
            )
        _, _, held = min(spare, key=lambda item: item[:2])
        taken = {row.digest for row in held}
        rest = [row for row in rest if row.digest not in taken]
    return canonical_order(rest, seed), canonical_order(held, seed)


def hold_out_for_selection(
    train: Sequence[Row], share: float, seed: int
) -> tuple[list[Row], list[Row]]:
    """Part the training rows into those to fit on and those to choose the checkpoint by.

    Validation rows are for reporting only, so this is where early stopping looks.

    Raises:
        DataError: the rows cannot be parted.
    """
    # Another word in the hash, so that the held-out rows are not simply the first in order.
    fit, selection = split(train, share, f"selection:{seed}", "training rows")
    return canonical_order(fit, seed), selection
