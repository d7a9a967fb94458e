"""Bad rows of one reading: all of them counted, the first of each kind of fault kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from expertbank.errors import DataError
from expertbank.wording import count

SHOWN = 100
"""Most bad rows of one fault that are kept."""
CHECK, LISTS = "expertbank tasks check", "lists all of them"
ALL_LISTED = f"{CHECK}, with the same options, {LISTS}"


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with the rows of one reading.

    Attributes:
        counts: bad rows by fault, in the order in which faults came up.
        first: the messages of the first hundred of each.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[str]] = field(default_factory=dict)

    def note(self, error: DataError) -> None:
        """Take one bad row down."""
        self.counts[error.fault] += 1
        kept = self.first.setdefault(error.fault, [])
        if len(kept) < SHOWN:
            kept.append(str(error))

    def take(self, others: Faults) -> None:
        """Take down what another reading found."""
        self.counts.update(others.counts)
        for fault, messages in others.first.items():
            self.first[fault] = [*self.first.get(fault, ()), *messages][:SHOWN]

    def __bool__(self) -> bool:
        return bool(self.counts)

    @property
    def rows(self) -> int:
        """Bad rows in all."""
        return self.counts.total()

    def refuse(self, advice: str = ALL_LISTED) -> None:
        """Refuse the data if any row is bad.

        Args:
            advice: how to see all of them.

        Raises:
            BadRowsError: a line for each kind of fault.
        """
        if self:
            raise BadRowsError(self, advice=advice)

    def to_list(self) -> list[dict[str, Any]]:
        """Plain JSON form."""
        return [
            {"fault": fault, "rows": count, "first": self.first[fault]}
            for fault, count in self.counts.items()
        ]


class BadRowsError(DataError):
    """Rows that cannot be used; the message has a line for each kind of fault.

    Attributes:
        faults: all of them.
        beside: what keeps the other rows from being used, if anything does.

    ``advice`` says how to see all of them; empty where nothing lists them.
    """

    def __init__(
        self, faults: Faults, beside: str | None = None, *, advice: str = ALL_LISTED
    ) -> None:
        lines = []
        for fault, messages in faults.first.items():
            more = faults.counts[fault] - 1
            lines.append(messages[0] + (f" (and {count(more, 'more such row')})" if more else ""))
        if faults.rows > len(lines) and advice:
            lines.append(advice)
        if beside:
            lines.append(f"without them: {beside}")
        super().__init__("\n".join(lines), next(iter(faults.first)))
        self.faults = faults
        self.beside = beside
