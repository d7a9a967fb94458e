"""Columns that no row is made of, and those among them that look like choices."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence

from expertbank.data.formats import Table
from expertbank.data.remarks import ID_COLUMNS
from expertbank.data.rows import wanted_of
from expertbank.data.spec import Columns

_NO_WONDER = ID_COLUMNS | {"idx", "index", "file", "split"}
"""Names of columns of which nobody expects that they are read."""
_LISTS = frozenset({"choices", "options", "endings", "candidates"})
"""Names of columns that hold all choices of a row."""
_NUMBERED = re.compile(r"(?P<stem>.*?)[ _.-]?(?P<mark>[0-9]{1,2}|[A-Za-z])")
_ONE_OF = re.compile(
    r"|.*(choice|option|opt|answer|ending|candidate|alternative|solution|sol|response|hypothesis)",
    re.IGNORECASE,
)
"""What the name of a column that holds one choice is without its number or letter."""


def unread(columns: Columns, table: Table, key: str | None = None) -> tuple[str, ...]:
    """Columns of a table that are not read, without those that nobody would miss.

    Args:
        columns: what is read.
        table: where.
        key: the column that tells which rows are held out, if one does.
    """
    read = {*wanted_of(columns), key}
    names = (name for name in table.columns if name not in read)
    return tuple(dict.fromkeys(one for one in names if one.strip().lower() not in _NO_WONDER))


def choices_remarks(unread: Sequence[str], columns: Columns, labels: Collection[str]) -> list[str]:
    """That choices are not read, and the options that read them.

    Several columns are choices where their names are numbered, and labels are such numbers.

    Args:
        unread: columns that are not read.
        columns: those that are.
        labels: those of the task's classes.
    """
    found: list[tuple[str, ...]] = [(name,) for name in unread if name.lower() in _LISTS]
    found += [one for one in _families(unread) if _point_at(one, labels)]
    if not found:
        return []
    named = ["--pair-column", columns.text_pair] if columns.text_pair else []
    for name in found[0]:
        named += ["--choices-column", name]
    one = len(found[0]) == 1
    what = f"column {found[0][0]!r} was" if one else f"columns {', '.join(found[0])} were"
    remark = (
        f"{what} not read, and {'looks' if one else 'look'} like the choices that labels point "
        f"at; as choices: --kind multiple_choice {shlex.join(named)}"
    )
    last = str(len(found[0]))
    if not one and last in labels and "0" not in labels:
        remark += (
            "; labels count from 1 there, so list them in a task file (--spec), as labels: "
            f"{[str(place) for place in range(1, len(found[0]) + 1)]}"
        )
    return [remark]


def _families(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Columns that are numbered from 0 or 1, or by letters from A, and named like choices."""
    found: dict[tuple[str, bool], dict[int, str]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match and _ONE_OF.fullmatch(match["stem"]):
            mark, digits = match["mark"], match["mark"].isdecimal()
            place = int(mark) if digits else ord(mark.lower()) - ord("a")
            found.setdefault((match["stem"].lower(), digits), {})[place] = name
    return [
        tuple(family[place] for place in sorted(family))
        for (_, digits), family in found.items()
        if len(family) > 1
        and min(family) <= digits
        and max(family) - min(family) == len(family) - 1
    ]


def _point_at(family: Sequence[str], labels: Collection[str]) -> bool:
    """Whether labels are places of columns, counted from 0, 1 or A, or their names."""
    places = range(len(family) + 1)
    letters = {letter for place in places[:-1] for letter in (chr(65 + place), chr(97 + place))}
    return set(labels) <= {*map(str, places), *letters, *family}
