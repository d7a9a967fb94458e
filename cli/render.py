"""How results look to people: rich tables from plain values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from expertbank.plain import plain
from expertbank.texts import printable as printable
from expertbank.wording import few

MANY = 200
"""Rows of a table at most; of more, plain aligned lines."""
NARROWEST_WORDS = 24
"""Columns of words shrink to this and no further."""
TONES = {
    **dict.fromkeys(("identical", "preserved", "ok"), "green"),
    **dict.fromkeys(("inconclusive", "not shown", "unverifiable", "warning"), "yellow"),
    **dict.fromkeys(("lost", "changed", "problem", "FAILED"), "red"),
}
"""Words that say whether all is well, and the colour that says it too."""
BARS = "▁▂▃▄▅▆▇█"
NAMED = 12
"""Names in a line at most; of more, the number."""
GAP = 3
"""Blanks and lines between two columns at most."""


def short(digest: str) -> str:
    """The first digits of a digest: enough to name it."""
    return digest[:12]


def size(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def moment(stamp: str) -> str:
    """A UTC time without fractions."""
    return stamp[:19].replace("T", " ")


@dataclass(frozen=True, slots=True)
class Table:
    """What stands above the columns of a table, and what gives way where it is too narrow.

    Attributes:
        columns: the headings.
        numeric: headings of columns that are set to the right.
        wrapped: headings of columns of words, which go on in a further line.
        dropped: headings of columns that are left out, the first one first.
        title: what stands above the table.
        toned: headings of columns whose words say whether all is well, see ``TONES``.
    """

    columns: Sequence[str]
    numeric: Collection[str] = ()
    wrapped: Collection[str] = ()
    dropped: Sequence[str] = ()
    title: str | None = None
    toned: Collection[str] = ()

    def shown_in(self, width: int, natural: Mapping[str, int]) -> tuple[str, ...]:
        """The columns that are shown within ``width``; none where it takes records instead.

        Columns of words shrink first, then columns are left out in their order. Nothing is ever
        cut: names, digests and dates are there to be copied.

        Args:
            width: columns of the terminal.
            natural: the width that each column would like.
        """
        least = {name: self.least(name, wish) for name, wish in natural.items()}
        for count in range(len(self.dropped) + 1):
            kept = tuple(name for name in self.columns if name not in self.dropped[:count])
            if sum(least[name] + GAP for name in kept) - GAP <= width:
                return kept
        return ()

    def least(self, name: str, natural: int) -> int:
        """How narrow a column may become."""
        return (
            min(natural, max(NARROWEST_WORDS, cell_len(name))) if name in self.wrapped else natural
        )


def sparkline(console: Console, values: Sequence[float]) -> str:
    """A curve in one line, from its lowest value to its highest; empty where it cannot be shown.

    One value is no curve, and a terminal that is not UTF-8 has no such characters.
    """
    if len(values) < 2 or not console.encoding.lower().startswith("utf"):
        return ""
    low, high = min(values), max(values)
    top = len(BARS) - 1
    return "".join(BARS[round(top * (value - low) / ((high - low) or 1))] for value in values)


def print_table(console: Console, table: Table, rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under headings, as the terminal allows; values are text, never markup.

    Of many rows, the first ones decide how wide the columns are, and the others come as they are
    made: they are never held in memory together.
    """
    remaining = iter(rows)
    first = [_cells(table, row) for row in islice(remaining, MANY + 1)]
    natural = {
        name: max(
            [cell_len(line) for line in name.split("\n")] + [cell_len(row[name]) for row in first]
        )
        for name in table.columns
    }
    fits = sum(natural.values()) + GAP * len(natural)
    width = fits if console.soft_wrap else console.width
    kept = table.shown_in(width, natural)
    if table.title:
        console.print(printable(table.title), markup=False, style="italic")
    if not kept:
        _print_records(console, chain(first, (_cells(table, row) for row in remaining)))
        return
    if len(first) <= MANY:
        _print_grid(console, table, {name: natural[name] for name in kept}, first, width)
    else:
        rest = (_cells(table, row) for row in remaining)
        _print_lines(console, table, {name: natural[name] for name in kept}, chain(first, rest))
    missing = [name.replace("\n", " ") for name in table.columns if name not in kept]
    if missing:
        note = f"(not shown at this width: {', '.join(missing)})"
        console.print(note, markup=False, style="dim")


def _cells(table: Table, row: Sequence[Any]) -> dict[str, str]:
    return {name: printable(str(value)) for name, value in zip(table.columns, row, strict=True)}


def _print_grid(
    console: Console,
    table: Table,
    natural: Mapping[str, int],
    rows: Iterable[Mapping[str, str]],
    width: int,
) -> None:
    grid = Grid(header_style="bold", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name, wish in natural.items():
        grid.add_column(
            name,
            justify="right" if name in table.numeric else "left",
            no_wrap=name not in table.wrapped,
            overflow="fold",
            min_width=table.least(name, wish),
        )
    for row in rows:
        grid.add_row(*(_text(table, name, row[name]) for name in natural))
    console.print(grid, width=width, soft_wrap=False, crop=False)


def _text(table: Table, name: str, cell: str) -> Text:
    return Text(cell, style=TONES.get(cell, "") if name in table.toned else "")


def _print_lines(
    console: Console,
    table: Table,
    widths: Mapping[str, int],
    rows: Iterable[Mapping[str, str]],
) -> None:
    for row in chain([{name: name.replace("\n", " ") for name in widths}], rows):
        cells = [
            row[name].rjust(width) if name in table.numeric else row[name].ljust(width)
            for name, width in widths.items()
        ]
        # Plain text, so straight to the stream: rich takes ten times as long for a line.
        console.file.write("  ".join(cells).rstrip() + "\n")


def _print_records(console: Console, rows: Iterable[Mapping[str, str]]) -> None:
    """A line for each value, and an empty one between rows; the terminal wraps what is longer."""
    for number, row in enumerate(rows):
        lines = [f"{name.replace(chr(10), ' ')}: {value}" for name, value in row.items() if value]
        console.file.write("\n" * (number > 0) + "\n".join(lines) + "\n")


def print_facts(console: Console, facts: Sequence[tuple[str, Any]]) -> None:
    """Print names and values, one a line."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        # Whatever the width, the terminal wraps it: a digest or path that is copied stays whole.
        console.print(printable(f"{name:<{width}}  {value}"), markup=False, soft_wrap=True)


def print_yaml(console: Console, document: Mapping[str, Any]) -> None:
    """Print a document of plain values as YAML, with what could drive a terminal escaped."""
    import yaml

    def dumped(*, unicode: bool) -> str:
        return yaml.safe_dump(
            plain(document), allow_unicode=unicode, default_flow_style=None, sort_keys=False
        )

    text = dumped(unicode=True)
    tame = all(line.isprintable() for line in text.split("\n"))
    console.file.write(text if tame else dumped(unicode=False))


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print lines that may quote users' data."""
    for line in lines:
        console.print(printable(line), markup=False)


def columns_read(columns: Mapping[str, Any]) -> str:
    """Which column holds what, in words."""
    named = [
        ("text", columns["text"]),
        ("pair", columns["text_pair"]),
        ("choices", " ".join(columns["choices"])),
        ("label", columns["label"] or " ".join(columns["flags"])),
        ("group", " ".join(columns["group"])),
    ]
    return ", ".join(f"{role}: {column}" for role, column in named if column)


def not_read(names: Sequence[str]) -> list[str]:
    """Which columns were not read, in words, if any were."""
    return [few(names, NAMED)] if names else []


def read_as(files: Iterable[Mapping[str, Any]]) -> list[str]:
    """What was recognised in files and a reader would not take for granted, each once."""
    from expertbank.data import FileFacts

    found = (FileFacts(**file).in_words() for file in files)
    return list(dict.fromkeys(filter(None, found)))
