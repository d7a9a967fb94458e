"""From one raw value to one text, checked: what all formats have in common."""

from __future__ import annotations

import math
import re
import struct
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from numbers import Number
from typing import Any

from expertbank.errors import DataError

LONGEST = 10_000_000
"""Most bytes of a line and characters of a text. A line that is longer is a mistake, such as a
quote that is never closed, and reading on would only fill the memory."""


_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\uffa0")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")
_SELECTORS = frozenset((*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))


@dataclass(frozen=True, slots=True)
class Repeated:
    """The value of a key that stands twice in one object: nobody knows which one is meant."""


def plain_text(value: Any, origin: str, column: str) -> str | None:
    """Text of a single value: numbers and truth values as Python writes them, absent as ``None``.

    Raises:
        DataError: a list, an array, an object or bytes, a key that stands twice, or text that no
            file could hold or that is longer than ``LONGEST``.
    """
    if is_absent(value):
        return None
    if isinstance(value, Repeated):
        raise DataError(
            f"{origin}: key {column!r} stands twice in one object; keep one of them", "repeated key"
        )
    if isinstance(value, Iterable) and not isinstance(value, str):
        raise DataError(
            f"{origin}: column {column!r} holds {type(value).__name__}, expected one text",
            "not one text",
        )
    try:
        text = str(value)
    except ValueError as error:
        # Python refuses to write a whole number of more than some thousand digits.
        raise DataError(
            f"{origin}: column {column!r} holds an endless number", "not one text"
        ) from error
    if not is_text(text):
        raise DataError(
            f"{origin}: column {column!r} holds a NUL or half a surrogate pair; remove it",
            "no character",
        )
    if len(text) > LONGEST:
        raise DataError(
            f"{origin}: column {column!r} holds {len(text):,} characters, more than {LONGEST:,}; "
            "split the text or remove the row",
            "too long",
        )
    return text


def printable(text: str) -> str:
    """Text with control and direction-changing characters made visible.

    Labels and file names come from users' data and must not be able to drive a terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == " " else char.encode("unicode_escape").decode()
        for char in text
    )


def is_absent(value: Any) -> bool:
    """Whether a value stands for none: ``None``, NaN of any type, or pandas' ``NA`` and ``NaT``."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(value, Number) and bool(value != value)  # only NaN does


def is_blank(text: str) -> bool:
    """Whether there is nothing to see: white space, and characters of no width such as U+200B."""
    return not text.strip() or all(char.isspace() or is_unseen(char) for char in text)


def is_unseen(char: str) -> bool:
    """Whether a character shows nothing and takes no place, or is a blank under another name."""
    return unicodedata.category(char) == "Cf" or char in _FILLERS or ord(char) in _SELECTORS


def fits_a_header(text: str) -> bool:
    """Whether ``text`` can be the value of an HTTP header as it stands, and a model's name."""
    return 0 < len(text) <= 256 and text.isascii() and text.isprintable() and text == text.strip()


def filled_text(values: Mapping[str, Any], column: str, origin: str) -> str:
    """The text under ``column``.

    Raises:
        DataError: it is absent or blank, or as ``plain_text``.
    """
    text = plain_text(values.get(column), origin, column)
    if text is None or is_blank(text):
        raise DataError(
            f"{origin}: the text (column {column!r}) is empty; fill it or remove the row",
            "empty text",
        )
    return text


def optional_text(values: Mapping[str, Any], column: str, origin: str) -> str | None:
    """The text under ``column``; ``None`` where it is absent or blank, which CSV cannot tell apart.

    Raises:
        DataError: as ``plain_text``.
    """
    text = plain_text(values.get(column), origin, column)
    return None if text is None or is_blank(text) else text


def is_text(text: str) -> bool:
    """Whether any file could hold it: no NUL, and no half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def number_text(raw: str, origin: str) -> str:
    """A number in its shortest form that is the same single-precision number.

    Parquet and the Hub hold targets in single precision and a CSV file has them as they were
    typed; the number 3.8 is then 3.799999952316284 in one and 3.8 in the other. Training is in
    single precision, so this form loses nothing and makes both the same row.

    Raises:
        DataError: not a number, not finite, or too large for single precision.
    """
    try:
        # Python takes 1_7 for 17; in data it is a range, a code or a slip.
        single = math.nan if "_" in raw else _single(float(raw))
    except ValueError:
        single = math.nan
    except OverflowError:
        raise DataError(
            f"{origin}: label {raw!r} is too large for single precision; divide all labels by "
            "one number, and multiply answers by it",
            "not a number",
        ) from None
    if not math.isfinite(single):
        point = "; write the decimal comma as a point" if "," in raw else ""
        if _THOUSANDS.fullmatch(raw.strip()):
            point = "; leave a comma between thousands out, or write a decimal comma as a point"
        raise DataError(
            f"{origin}: label {raw!r} is not a number; regression needs numbers{point}",
            "not a number",
        )
    for digits in range(1, 10):
        text = f"{single:.{digits}g}"
        if _single(float(text)) == single:
            break
    return "0" if text == "-0" else text


def _single(value: float) -> float:
    """``value`` rounded to single precision."""
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded


def is_number(text: str) -> bool:
    """Whether ``number_text`` takes it."""
    try:
        number_text(text, "")
    except DataError:
        return False
    return True


def look(text: str) -> str:
    """A form that is equal for texts that look the same.

    Without case, runs of white space, characters of no width and the differences that Unicode
    calls compatible, such as those of NFC and NFD or of full width.
    """
    if text.isascii():
        return " ".join(text.casefold().split())
    # Some blanks become others by that, so what cannot be seen goes before and after.
    seen = unicodedata.normalize("NFKC", _without_unseen(text)).casefold()
    return " ".join(_without_unseen(seen).split())


def _without_unseen(text: str) -> str:
    return text.translate({ord(char): None for char in set(text) if is_unseen(char)})


def likeness(text: str) -> str:
    """A form that is equal for texts that a person takes for the same.

    Their ``look``; numbers by their value, in single precision where they are not whole.
    """
    seen = look(text)
    if not is_number(seen):
        return seen
    try:
        exact = Decimal(seen)
        # A code of eight digits has neighbours that single precision does not tell from it.
        whole = int(exact)
    except InvalidOperation:  # an exponent that only ``float`` takes, for 0 or next to it
        return number_text(seen, "")
    return str(whole) if whole == exact else number_text(seen, "")


def as_python_prints(text: str) -> str:
    """What to do about a list that is no JSON because Python printed it; else nothing."""
    if "'" not in text:
        return ""
    return (
        "; Python prints lists with single quotes: write JSON, in pandas with "
        "frame[column].map(json.dumps)"
    )
