"""Splits by hash: the same rows give the same split, in whatever order or file they come.

No random generator is involved. Every choice follows ``sha256(seed:digest)``, where the digest
is taken over a row's content.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from expertbank.config import canonical_json
from expertbank.data.clusters import linked
from expertbank.errors import DataError
from expertbank.records import Row
from expertbank.texts import is_number, look
from expertbank.wording import count

Classes = Callable[[Row], Iterable[str | None]]
"""The classes of a row, each of which must keep a row."""


def order_key(row: Row, seed: int | str) -> bytes:
    """Place of a row in the order that belongs to ``seed``."""
    return hashlib.sha256(f"{seed}:{row.digest}".encode()).digest()


def canonical_order(rows: Sequence[Row], seed: int | str) -> list[Row]:
    """Rows in hash order."""
    return sorted(rows, key=lambda row: order_key(row, seed))


def take(rows: Sequence[Row], limit: int | None, seed: int | str) -> list[Row]:
    """At most ``limit`` rows, the first in hash order; ``None`` takes all."""
    return canonical_order(rows, seed)[:limit]


def take_of_each(
    rows: Sequence[Row], limit: int | None, seed: int | str, classes: Classes
) -> list[Row]:
    """As ``take``, but that a class keeps a row if another can spare one.

    An expert that is frozen with a class that no row ever showed would stay so.
    """
    ordered = canonical_order(rows, seed)
    if limit is None or limit >= len(ordered):
        return ordered
    taken, rest = ordered[:limit], ordered[limit:]
    left = _counts(taken, classes)
    place = len(taken)
    for row in rest:
        if all(left[name] for name in classes(row)):
            continue
        # What could not be spared before cannot be spared now: counts of others only fall.
        while place:
            place -= 1
            spare = Counter(classes(taken[place]))
            if all(left[name] > count for name, count in spare.items()):
                left -= spare
                left += Counter(classes(row))
                taken[place] = row
                break
        if not place:
            break
    return canonical_order(taken, seed)


def normalised_input(row: Row) -> bytes:
    """Digest of how what the model reads looks, see ``texts.look``.

    Equal for near copies. A digest, so that a million rows do not stand in memory twice.
    """
    value = [
        look(row.text),
        look(row.text_pair) if row.text_pair is not None else None,
        [look(choice) for choice in row.choices],
    ]
    return hashlib.sha256(canonical_json(value).encode("utf-8")).digest()


def without_duplicates(rows: Sequence[Row]) -> list[Row]:
    """The first of each set of equal rows, with the groups of all of them."""
    kept: dict[bytes, Row] = {}
    for row in rows:
        digest = bytes.fromhex(row.digest)
        first = kept.setdefault(digest, row)
        if set(row.group) - set(first.group):
            kept[digest] = replace(first, group=tuple(sorted({*first.group, *row.group})))
    return list(kept.values())


def without_leaks(train: Sequence[Row], validation: Sequence[Row]) -> list[Row]:
    """The rows of ``train`` whose normalised input does not stand in ``validation``."""
    seen = {normalised_input(row) for row in validation}
    return [row for row in train if normalised_input(row) not in seen]


def components(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that must stay together: linked by a group value or by the same normalised input."""
    parts: dict[int, list[Row]] = {}
    links = ((normalised_input(row), *row.group) for row in rows)
    for row, number in zip(rows, linked(list(links)).tolist(), strict=True):
        parts.setdefault(number, []).append(row)
    return list(parts.values())


def split(
    rows: Sequence[Row],
    share: float,
    seed: int | str,
    where: str = "data:1",
    *,
    classes: Classes,
    advice: str = "add rows, or give a validation file",
) -> tuple[list[Row], list[Row]]:
    """Hold out about ``share`` of the rows, whole components at a time.

    Components are taken in hash order while they fit; if they come to less than half of the
    share, the smallest of the others is taken too. A component stays behind if no row of one of
    its classes would be left without it, so every class can be trained on. Exact duplicates are
    dropped first.

    Args:
        rows: rows in any order.
        share: fraction to hold out, above 0 and below 1.
        seed: what the hash order belongs to.
        where: what to call the rows in messages.
        classes: the classes of a row, as the task's kind has them.
        advice: what helps where nothing can be held out.

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
    left = _counts(unique, classes)
    room = share * len(unique)
    held: list[Row] = []
    rest: list[Row] = []
    spare: list[tuple[int, bytes, list[Row]]] = []

    def may_go(part: Sequence[Row]) -> bool:
        """Whether every class of ``part`` keeps a row among those left without it."""
        return all(left[label] > count for label, count in _counts(part, classes).items())

    for key, part in parts:
        if len(held) + len(part) <= room and may_go(part):
            held += part
            left -= _counts(part, classes)
        else:
            rest += part
            spare.append((len(part), key, part))
    if len(held) < room / 2:
        # Large components alone are left: one that is too big holds out more than crumbs would.
        by_size = sorted(spare, key=lambda item: item[:2])
        extra = next((item for item in by_size if may_go(item[2])), None)
        if extra is not None and (not held or len(held) + extra[0] <= len(unique) / 2):
            taken = {row.digest for row in extra[2]}
            held += extra[2]
            rest = [row for row in rest if row.digest not in taken]
    different = count(len(unique), "different row")
    if not held and set(left) == {None}:
        raise DataError(
            f"{where}: {different} cannot be split: whatever group of linked rows is held "
            f"out, none is left to train on; {advice}"
        )
    if not held:
        raise DataError(
            f"{where}: {different} with {len(left)} labels cannot be split: whatever "
            "group of linked rows is held out, some label keeps no training row; check the "
            f"label column{_if_numbers(left)}, {advice}"
        )
    return canonical_order(rest, seed), canonical_order(held, seed)


def _if_numbers(labels: Iterable[str | None]) -> str:
    """What may be meant by labels that are numbers and too many to be classes."""
    numbers = all(label is not None and is_number(label) for label in labels)
    return " (for values to be predicted as numbers: --kind regression)" if numbers else ""


def _counts(rows: Sequence[Row], classes: Classes) -> Counter[str | None]:
    """Rows of each class."""
    return Counter(name for row in rows for name in classes(row))


def hold_out_for_selection(
    train: Sequence[Row], share: float, seed: int, classes: Classes
) -> tuple[list[Row], list[Row]]:
    """Part the training rows into those to fit on and those to choose the checkpoint by.

    Validation rows are for reporting only, so this is where early stopping looks.

    Raises:
        DataError: the rows cannot be parted.
    """
    # Another word in the hash, so that the held-out rows are not simply the first in order.
    fit, selection = split(
        train,
        share,
        f"selection:{seed}",
        "training rows",
        classes=classes,
        advice="or add training rows, or raise --limit where it leaves rows out: some must be held "
        "out to choose the checkpoint by, and a label with one row cannot spare it",
    )
    return canonical_order(fit, seed), selection
