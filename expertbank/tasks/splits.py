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

    Components are taken in hash order while they fit; if they come to less than half of the
    share, the smallest of the others is taken too. A component stays behind if no row of one of
    its labels would be left without it, so every label can be trained on. Exact duplicates are
    dropped first.

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
        if len(held) + len(part) <= room and _may_go(part, left):
            held += part
            left -= Counter(row.label for row in part)
        else:
            rest += part
            spare.append((len(part), key, part))
    if len(held) < room / 2:
        # Large components alone are left: one that is too big holds out more than crumbs would.
        by_size = sorted(spare, key=lambda item: item[:2])
        extra = next((item for item in by_size if _may_go(item[2], left)), None)
        if extra is not None and (not held or len(held) + extra[0] <= len(unique) / 2):
            taken = {row.digest for row in extra[2]}
            held += extra[2]
            rest = [row for row in rest if row.digest not in taken]
    if not held:
        raise DataError(
            f"{where}:1: {len(unique)} rows with {len(left)} labels cannot be split: whatever "
            "group of linked rows is held out, some label keeps no training row; check the "
            "label column, add rows, or give a validation file"
        )
    return canonical_order(rest, seed), canonical_order(held, seed)


def _may_go(part: Sequence[Row], left: Counter[str | None]) -> bool:
    """Whether every label of ``part`` keeps a row among those left without it."""
    return all(left[label] > count for label, count in Counter(r.label for r in part).items())


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
