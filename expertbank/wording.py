"""Numbers of things and names of things in a sentence."""

from __future__ import annotations

from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listing(names: Sequence[str], most: int | None = None) -> str:
    """``a``, ``a and b``, ``a, b and c``; of more than ``most`` the first and how many more."""
    if most is not None and len(names) > most:
        names = [*names[:most], f"{len(names) - most:,} more"]
    *first, last = names or ("",)
    return f"{', '.join(first)} and {last}" if first else last


def few(names: Sequence[object], most: int = 5) -> str:
    """All of a few, and of many the first: ``a, b``, ``a, b, c and 1,204 more``."""
    shown = ", ".join(map(str, names[:most]))
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown
