"""Checked reading of plain values, as YAML and JSON give them.

Every message names the place it concerns, so that a slip in a catalog entry or a stored spec is
found at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from expertbank.errors import InputError


def mapping(value: object, where: str, known: Sequence[str]) -> Mapping[str, Any]:
    """``value`` as a mapping with known keys only.

    Raises:
        InputError: it is none, or has an unknown key; near names are given.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: expected keys and values, got {type(value).__name__}")
    for key in value:
        if key not in known:
            near = get_close_matches(str(key), known, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
            raise InputError(f"{where}: unknown key {key!r}; {hint}")
    return value


def text_value(given: Mapping[str, Any], key: str, where: str) -> str | None:
    """The text under ``key``, or ``None`` where it is absent or empty.

    Raises:
        InputError: another type of value.
    """
    value = given.get(key)
    if value is None or isinstance(value, str):
        return value or None
    raise InputError(f"{where}: {key} must be text, got {value!r} (quote it)")


def required(given: Mapping[str, Any], key: str, where: str) -> str:
    """The text under ``key``.

    Raises:
        InputError: it is absent, empty or of another type.
    """
    value = text_value(given, key, where)
    if value is None:
        raise InputError(f"{where}: {key} is missing")
    return value


def text_values(given: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """The texts under ``key``; one text alone stands for a list of one.

    Raises:
        InputError: another type of value.
    """
    value = given.get(key) or ()
    items = (value,) if isinstance(value, str) else value
    if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items):
        raise InputError(f"{where}: {key} must be text or a list of text (quote it), got {value!r}")
    return tuple(items)


def plain(value: Any) -> Any:
    """Tuples to lists, all the way down, so that the JSON form reads back equal."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
