"""JSON: one object a line, or one array of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from expertbank.data.formats.lines import Line
from expertbank.data.formats.table import Found, Record
from expertbank.errors import DataError
from expertbank.texts import Repeated


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a key that stands twice has no value that could be meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found[key] = Repeated()
            seen.add(key)
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs)
_BROKEN = (ValueError, RecursionError)
_SPACE = re.compile(r"[ \t\r\n]*")


def parse_object(line: str, origin: str) -> dict[str, Any]:
    """The JSON object on one line; the value of a key that stands twice is ``Repeated``.

    Raises:
        DataError: not JSON, or JSON of another kind.
    """
    try:
        value = _DECODER.decode(line.removeprefix("\ufeff"))  # joined files bring their marks
    except _BROKEN as error:
        whole = line.strip() in {"{", "["}
        hint = "; write one object a line, or one array of objects" if whole else ""
        raise DataError(f"{origin}: not valid JSON: {_why(error)}{hint}", "JSON") from error
    return _object(value, origin)


def _why(error: Exception) -> str:
    """Why Python cannot read a document, without its own limits and how to raise them."""
    if isinstance(error, json.JSONDecodeError):
        return str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "it holds a whole number of too many digits"


def _object(value: Any, origin: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f'{origin}: expected a JSON object such as {{"text": …}}, got {type(value).__name__}',
            "JSON",
        )
    return value


def require_whole(line: str, origin: str) -> None:
    """Refuse a file whose first line only begins an object, instead of every line of it.

    Raises:
        DataError: it does.
    """
    if line.strip()[-1:] in {"{", "["}:
        raise DataError(
            f"{origin}: not valid JSON lines: the first object goes on over several lines; write "
            "one object a line, or one array of objects without anything around it",
            "JSON",
        )


def read_lines(lines: Iterable[Line], name: str) -> Iterator[Found]:
    """Records of one object a line."""
    for number, line in lines:
        if isinstance(line, DataError) or line.strip("\ufeff \t\r\n"):
            yield _record(line, f"{name}:{number}")


def _record(line: str | DataError, origin: str) -> Found:
    if isinstance(line, DataError):
        return line
    try:
        return Record(parse_object(line, origin), origin)
    except DataError as error:
        return error.kept()


def read_array(text: str, name: str) -> Iterator[Found]:
    """Records of the objects of one array, each with the line that it starts on.

    Raises:
        DataError: the array breaks off; nothing after that was read.
    """
    place, counted, line, sign = text.index("["), 0, 1, "["
    while sign in {"[", ","}:
        place = _next(text, place + 1)
        line, counted = line + text.count("\n", counted, place), place
        origin = f"{name}:{line}"
        if sign == "[" and text.startswith("]", place):
            sign = "]"
            continue
        try:
            value, place = _DECODER.raw_decode(text, place)
        except _BROKEN as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else _why(error)
            raise _broken(origin, reason) from error
        try:
            yield Record(_object(value, origin), origin)
        except DataError as error:
            yield error.kept()
        place = _next(text, place)
        sign = text[place : place + 1]
    line += text.count("\n", counted, place)
    if sign != "]":
        raise _broken(f"{name}:{line}", "a comma or the end of the array is missing")
    if text[place + 1 :].strip():
        raise _broken(f"{name}:{line}", "something stands after the array")


def _broken(origin: str, reason: str) -> DataError:
    return DataError(f"{origin}: not valid JSON: {reason}; nothing after it was read", "JSON")


def _next(text: str, place: int) -> int:
    """The next place that is no white space."""
    found = _SPACE.match(text, place)
    return found.end() if found else place
