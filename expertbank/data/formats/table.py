"""What every format reads into: a table whose columns are known and whose rows come one by one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from expertbank.errors import DataError


@dataclass(frozen=True, slots=True)
class Record:
    """One raw example and where it stands (``file:line``)."""

    values: Mapping[str, Any]
    origin: str


Found = Record | DataError
"""A row of a file, or in its place what is wrong with it."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """How a file was read.

    Attributes:
        file: what it is called in messages.
        format: ``csv``, ``json``, ``parquet``, ``folder`` or ``hub``.
        separator: between cells, where there are cells.
        encoding: of its text, where it has one; ``None`` where each line tells.
        compressed: whether gzip was taken off.
    """

    file: str
    format: str
    separator: str | None = None
    encoding: str | None = None
    compressed: bool = False

    def in_words(self) -> str:
        """What a reader of this file would not take for granted; empty if nothing."""
        words = []
        if self.separator not in {None, ","}:
            name = "tab" if self.separator == "\t" else repr(self.separator)
            words.append(f"cells separated by {name}")
        if self.encoding not in {None, "utf-8"}:
            words.append(f"encoded in {self.encoding}")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one file, or of one folder of texts.

    Attributes:
        facts: how it is read.
        columns: names in the order they first appear; a name may stand twice.
        read: the rows, once, with the values of the columns that are asked for and maybe others.
        class_names: of a column of numbers, what they stand for.
        ahead: of JSON that is read as it comes, of how many rows at most ``columns`` has the keys:
            those after them may bring more. ``None`` where all columns are known.
        remarks: what was left out, as sentences; whole when all rows were read.
    """

    facts: FileFacts
    columns: tuple[str, ...]
    read: Callable[[Collection[str]], Iterator[Found]]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ahead: int | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the file is called in messages."""
        return self.facts.file

    def rows(self, wanted: Collection[str]) -> Iterator[Found]:
        """The rows, with at least the values of the columns ``wanted``.

        Raises:
            DataError: one of them stands twice.
        """
        twice = sorted(name for name in set(wanted) if self.columns.count(name) > 1)
        if twice:
            raise DataError(f"{self.name}:1: columns are repeated: {twice}; rename all but one")
        return self.read(wanted)
