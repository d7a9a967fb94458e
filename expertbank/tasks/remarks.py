"""What is odd about data and yet no reason to refuse it: sentences for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from expertbank.errors import DataError
from expertbank.records import Row, TaskKind
from expertbank.tasks.readers import Table
from expertbank.tasks.texts import number_text

_ID_COLUMNS = frozenset({"id", "uid", "guid", "uuid", "row_id", "example_id", "pair_id", "pairid"})
_SHOWN = 5
_MANY_NUMBERS = 20


def label_remarks(rows: Iterable[Row], kind: TaskKind) -> tuple[str, ...]:
    """Remarks on labels: those that differ in case or white space only, numbers, positions.

    Args:
        rows: labelled rows of all splits.
        kind: the task's kind.
    """
    counts = Counter(row.label for row in rows if row.label is not None)
    if kind == "multiple_choice":
        if counts and "0" not in counts:
            return (
                "the first choice is never the right one; positions count from 0: if the data "
                'counts from 1, list labels: ["1", "2", …] in a task file',
            )
        return ()
    if kind != "classification":
        return ()
    groups: dict[str, list[str]] = {}
    for label in sorted(counts):
        groups.setdefault(" ".join(label.casefold().split()), []).append(label)
    alike = [group for group in groups.values() if len(group) > 1]
    remarks = [
        "labels differ only in case or white space and count as different classes: "
        + ", ".join(f"{label!r} ({counts[label]} rows)" for label in group)
        + "; make them one, or join them with label_names in a task file"
        for group in alike[:_SHOWN]
    ]
    if len(alike) > _SHOWN:
        remarks.append(f"{len(alike) - _SHOWN} more sets of labels differ only so")
    if len(counts) > _MANY_NUMBERS and all(map(_is_number, counts)):
        remarks.append(
            f"{len(counts)} labels, all of them numbers: for a task of values write "
            "kind: regression in a task file"
        )
    return tuple(remarks)


def id_remarks(tables: Sequence[Table]) -> tuple[str, ...]:
    """Remarks on values that stand twice in an identifier column of one split.

    Ids are not read by training, so this is no reason to refuse the data; but it often means that
    files were joined twice.
    """
    remarks: list[str] = []
    columns = (
        [column for column in tables[0].columns if column.lower() in _ID_COLUMNS] if tables else []
    )
    for column in columns:
        first: dict[str, str] = {}
        repeated: list[str] = []
        number = 0
        for table in tables:
            for record in table.records:
                value = record.values.get(column)
                if value is None or value == "":
                    continue
                before = first.setdefault(str(value), record.origin)
                if before != record.origin:
                    number += 1
                    if len(repeated) < _SHOWN:
                        repeated.append(f"{value!r} ({record.origin}, first {before})")
        if number:
            more = f" and {number - len(repeated)} more" if number > len(repeated) else ""
            remarks.append(f"column {column!r} repeats ids: {', '.join(repeated)}{more}")
    return tuple(remarks)


def _is_number(label: str) -> bool:
    try:
        number_text(label, "")
    except DataError:
        return False
    return True
