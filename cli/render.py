"""How results look to people: rich tables from plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from expertbank.texts import printable as printable


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


def print_table(
    console: Console,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    numeric: Sequence[str] = (),
) -> None:
    """Print rows under headings; values are text, never markup."""
    table = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left")
    for row in rows:
        table.add_row(*(Text(printable(str(value))) for value in row))
    console.print(table)


def print_stream(
    console: Console,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    numeric: Sequence[str] = (),
    most: int = 200,
) -> None:
    """Print a table of up to ``most`` rows; of more, plain aligned lines as they come.

    A table's columns are as wide as their widest value, which only the last row tells; what is
    longer takes its widths from the first ``most`` rows, and is never held in memory.
    """
    remaining = iter(rows)
    first = [[printable(str(value)) for value in row] for row in islice(remaining, most + 1)]
    if len(first) <= most:
        print_table(console, columns, first, numeric=numeric)
        return
    widths = [max(map(len, values)) for values in zip(columns, *first, strict=True)]

    def write(values: Sequence[str]) -> None:
        cells = [
            value.rjust(width) if column in numeric else value.ljust(width)
            for column, value, width in zip(columns, values, widths, strict=True)
        ]
        # Plain text, so straight to the stream: rich takes ten times as long for a line.
        console.file.write("  ".join(cells).rstrip() + "\n")

    write(columns)
    for row in first:
        write(row)
    for more in remaining:
        write([printable(str(value)) for value in more])


def print_facts(console: Console, facts: Sequence[tuple[str, Any]]) -> None:
    """Print names and values, one a line."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        console.print(f"{name:<{width}}  {printable(str(value))}", markup=False)


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


def read_as(files: Iterable[Mapping[str, Any]]) -> list[str]:
    """What was recognised in files and a reader would not take for granted, each once."""
    from expertbank.data import FileFacts

    found = (FileFacts(**file).in_words() for file in files)
    return list(dict.fromkeys(filter(None, found)))
