"""Malformed rows of a file that are left out: each is named, and all are counted at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from expertbank.errors import InputError

from .session import Session

T = TypeVar("T")


@dataclass(slots=True)
class LeftOut:
    """What ``--skip-bad`` leaves out of a file, and how much is left."""

    session: Session
    count: int = 0
    others: int = 0

    def __call__(self, error: InputError) -> None:
        """Name one more row."""
        self.count += 1
        self.session.remark(f"skipped: {error}")

    def counted(self, answers: Iterable[T]) -> Iterator[T]:
        """The answers to rows that were not left out, as they come."""
        for answer in answers:
            self.others += 1
            yield answer

    def tell(self) -> None:
        """Say how many there were, if there were any.

        Raises:
            InputError: there was no other row, so nothing was answered.
        """
        if self.count and not self.others:
            raise InputError(f"none of the {self.count:,} rows could be read; nothing was answered")
        if self.count:
            self.session.remark(f"{self.count:,} malformed rows were skipped")
