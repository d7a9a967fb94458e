"""Cells between separators: CSV and its kin, with a header, as spreadsheets and people write them.

Cells stay text, so labels such as ``None``, ``NA`` and ``007`` keep their spelling.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice

from expertbank.data.formats.lines import Line
from expertbank.data.formats.table import Found, Record
from expertbank.errors import DataError
from expertbank.texts import LONGEST
from expertbank.wording import count, few

SEPARATORS = (",", ";", "\t", "|")
"""Those that are recognised, the usual one first."""
_SHOWN = {"\t": "tab"}
_PROSE = {",", ";"}
_DECLARED = re.compile(r'\ufeff?"?sep=(\t|[^\w\s"])"?\s*', re.IGNORECASE)
SAMPLE = 20
"""Lines that the separator is recognised by."""
_LISTED = 5


class Delimited:
    """A file of cells whose header is read and whose rows are still to come.

    Attributes:
        separator: what stands between cells.
        columns: names of the columns, blanks around them taken off; empty where there is none.
        remarks: what was left out, when the rows are read.
    """

    def __init__(
        self,
        lines: Iterator[Line],
        name: str,
        wished: str | None,
        usual: str,
        *,
        start: int = 1,
        sample: int = SAMPLE,
    ) -> None:
        """Read the header.

        Args:
            lines: of the file.
            name: what to call it in messages.
            wished: the separator; ``None`` recognises it.
            usual: the one that wins where several would do.
            start: number of the first of the lines.
            sample: lines to recognise it by; a pipe may not have more than one yet.
        """
        self._name = name
        self._wrong: deque[tuple[int, DataError]] = deque()
        self._left_out: dict[str, list[int]] = {}
        self.remarks: list[str] = []
        physical = self._physical(lines)
        first = list(islice(physical, sample))
        declared = _DECLARED.fullmatch(first[0]) if first else None
        self._before = start - 1 + (1 if declared else 0)
        first = first[1:] if declared else first
        self.separator = wished or (declared[1] if declared else _recognised(first, usual))
        self._reader = csv.reader(
            chain(first, physical),
            delimiter=self.separator,
            # Strict: an open quote would otherwise swallow the rest of the file as one cell.
            strict=True,
            # Who writes "text, label" writes rows so too.
            skipinitialspace=_spaced(first, self.separator),
        )
        self._cells = self._records()
        self._header: list[str] = []
        self.columns: tuple[str, ...] = ()
        self._early: list[tuple[int, DataError]] = []
        for line, cells in self._cells:
            if not isinstance(cells, DataError):
                if not any(map(_name, cells)):
                    continue
                self._header = [_name(cell) for cell in cells]
                self.columns = tuple(name for name in self._header if name)
                break
            self._early.append((line, cells))
        else:
            line = 0
        if self._early and (not line or self._early[0][0] <= line):
            # Without a header no row can be read.
            raise self._early[0][1]

    def rows(self, wanted: Collection[str]) -> Iterator[Found]:
        """Records with the columns ``wanted``, and in place of bad rows what is wrong with them."""
        yield from (error for _, error in self._early)
        header = self._header
        named = len(header) - next((n for n, name in enumerate(reversed(header)) if name), 0)
        places = [(place, name) for place, name in enumerate(header) if name and name in wanted]
        for line, cells in self._cells:
            if isinstance(cells, DataError):
                yield cells
            elif not any(map(str.strip, cells)):
                self._leave_out("holding nothing", line)
            elif self._is_header(cells):
                self._leave_out("repeating the header", line)
            else:
                complaint = self._complaint(cells, named)
                if any("\n" in cell for cell in cells) and self._swallows(cells):
                    self._leave_out("swallowed", line)
                origin = f"{self._name}:{line}"
                if complaint is None:
                    yield Record({name: cells[place] for place, name in places}, origin)
                else:
                    yield DataError(f"{origin}: {complaint}", "cells")
        swallowed = self._left_out.pop("swallowed", [])
        if swallowed:
            self.remarks.append(
                f"{self._name}: the row of line {swallowed[0]} holds lines that look like rows of "
                "their own; is a quote in it never closed?"
            )
        for what, numbers in self._left_out.items():
            self.remarks.append(
                f"{self._name}: {count(len(numbers), 'row')} left out, {what} "
                f"(line {few(numbers, _LISTED)})"
            )

    def _complaint(self, cells: Sequence[str], named: int) -> str | None:
        """What is wrong with the number of cells; blank ones at the end are no cells."""
        if named <= len(cells) and not any(map(str.strip, cells[len(self._header) :])):
            if sorted(cell.strip() for cell in cells) == sorted(self._header) and named > 1:
                return "the header again, in another order; the rows after it are another file's"
            return None
        separator = _SHOWN.get(self.separator, self.separator)
        return (
            f"{len(cells)} cells where the header has {len(self._header)}; quote cells that hold "
            f"the separator ({separator}) or a line break"
        )

    def _is_header(self, cells: Sequence[str]) -> bool:
        """Whether files were joined with their headers."""
        return len(self.columns) > 1 and [_name(cell).casefold() for cell in cells] == [
            name.casefold() for name in self._header
        ]

    def _swallows(self, cells: Sequence[str]) -> bool:
        """Whether a cell looks as if it went from the middle of one row to that of another.

        Of what stands in prose too, as a comma, it takes a whole row between the two.
        """
        whole = len(self._header) - 1
        for place, cell in enumerate(cells[: len(self._header)]):
            counts = [line.count(self.separator) for line in cell.split("\n")]
            first, inner, last = counts[0], counts[1:-1], counts[-1]
            if whole and len(counts) > 1 and set(inner) <= {whole}:
                ends = (first, last) == (whole - place, place)
                if len(inner) > 1 or (ends and (inner or self.separator not in _PROSE)):
                    return True
        return False

    def _leave_out(self, what: str, line: int) -> None:
        self._left_out.setdefault(what, []).append(line)

    def _records(self) -> Iterator[tuple[int, list[str] | DataError]]:
        """Cells of each row with the line that it starts on; what is malformed in its place."""
        start = 1 + self._before
        while True:
            with _long_cells():
                try:
                    cells: list[str] | DataError | None = next(self._reader)
                except StopIteration:
                    cells = None
                except csv.Error as error:
                    cells = DataError(
                        f"{self._name}:{start}: malformed row ({error}); a cell with a quote "
                        "character must be quoted and its quotes doubled",
                        "quotes",
                    )
                    if "end of data" in str(error):
                        # No row of its own: what else the file holds stands in this one.
                        raise DataError(f"{cells}; nothing after it was read", "quotes") from error
            while self._wrong:
                yield self._wrong.popleft()
            if cells is None:
                return
            if cells:
                yield start, cells
            start = self._reader.line_num + 1 + self._before

    def _physical(self, lines: Iterator[Line]) -> Iterator[str]:
        """Lines as CSV counts them: a carriage return alone ends one too.

        A line that is no text leaves an empty one, and what is wrong with it is told beside.
        """
        for number, line in lines:
            if isinstance(line, DataError):
                self._wrong.append((number, line))
                yield "\n"
            elif "\r" in line.removesuffix("\n").removesuffix("\r"):
                yield from io.StringIO(line, newline="")
            else:
                yield line


def _name(cell: str) -> str:
    """A column's name: what a spreadsheet or a byte order mark puts around it is none of it."""
    return cell.strip().removeprefix("\ufeff").strip()


def _spaced(lines: Sequence[str], separator: str) -> bool:
    """Whether a blank stands behind every separator of the header."""
    cells = next(_parsed(lines[:1], separator), [])
    return separator != " " and len(cells) > 1 and all(cell.startswith(" ") for cell in cells[1:])


def _recognised(lines: Sequence[str], usual: str) -> str:
    """The separator by which the first lines have the most cells, the same number in each."""

    def fitness(separator: str) -> tuple[bool, float, int, bool]:
        counts = [len(row) for row in _parsed(lines, separator) if any(row)]
        if not counts or counts[0] < 2:
            return (False, 0.0, 0, separator == usual)
        alike = sum(count == counts[0] for count in counts) / len(counts)
        return (True, alike, counts[0], separator == usual)

    return max((usual, *(one for one in SEPARATORS if one != usual)), key=fitness)


def _parsed(lines: Sequence[str], separator: str) -> Iterator[list[str]]:
    """Rows of a sample, as far as they can be read."""
    with _long_cells():
        rows: list[list[str]] = []
        with suppress(csv.Error):
            rows.extend(csv.reader(lines, delimiter=separator))
    # A row whose quote closes only after the sample is none to count by.
    open_quote = sum(line.count('"') for line in lines) % 2
    return iter(rows[:-1] if open_quote and len(rows) > 1 else rows)


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let cells be long; the limit is the module's, so put it back."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, LONGEST))
    try:
        yield
    finally:
        csv.field_size_limit(before)
