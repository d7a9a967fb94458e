"""What is odd about data and yet no reason to refuse it: sentences for people."""

from __future__ import annotations

from collections.abc import Sequence

from expertbank.data.readers import Table

_ID_COLUMNS = frozenset({"id", "uid", "guid", "uuid", "row_id", "example_id", "pair_id", "pairid"})
_SHOWN = 5


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
