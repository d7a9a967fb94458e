"""JSON as callers send it, read strictly and refused in one sentence; and as they get it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from fastapi import Response

from expertbank.http.problems import malformed


def read_json(data: bytes | memoryview) -> Any:
    """The JSON document in some bytes.

    Raises:
        RefusedError: not UTF-8, not JSON, a number that JSON has no name for, or a key that stands
            twice in one object: nobody knows which value is meant.
    """
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise malformed(f"the request is not UTF-8 (byte {error.start})") from None
    if not text.strip():
        raise malformed("the request is empty; expected JSON")
    try:
        return _DECODER.decode(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise malformed(f"the request is not valid JSON: {error.msg} ({where})") from None
    except _TwiceError as error:
        raise malformed(
            f"the request: key {error.args[0][:40]!r} stands twice in one object; keep one of them"
        ) from None
    except ValueError:  # what Python refuses to read: NaN, a number of thousands of digits
        raise malformed("the request holds a number that cannot be read") from None
    except RecursionError:
        raise malformed("the request is nested too deeply") from None


def json_object(value: Any, what: str) -> Mapping[str, Any]:
    """``value`` as an object.

    Raises:
        RefusedError: it is something else.
    """
    if not isinstance(value, dict):
        raise malformed(f"{what} must be a JSON object, got {kind_of(value)}")
    return value


def read_object(data: bytes | memoryview) -> Mapping[str, Any]:
    """The JSON object that a request is.

    Raises:
        RefusedError: it is something else.
    """
    return json_object(read_json(data), "the request")


def optional(value: Any, kind: type, what: str) -> Any:
    """``value`` if it is of this kind, ``None`` where it is absent.

    Raises:
        RefusedError: it is something else.
    """
    if value is None:
        return None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise malformed(f"{what} must be {_NAMES[kind]}, got {kind_of(value)}")
    return value


def among(value: object, values: Sequence[object]) -> bool:
    """Whether it is one of them; to Python 0 is ``False``, and here it is not."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in values)


def kind_of(value: Any) -> str:
    """What JSON calls a value of this kind."""
    return "null" if value is None else _NAMES.get(type(value), "something else")


def texts(value: object, what: str) -> list[str]:
    """One text or several.

    Raises:
        RefusedError: something else, or none.
    """
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list):
        raise malformed(f"{what} must be a text or an array of texts, got {kind_of(value)}")
    if not found:
        raise malformed(f"{what} holds no text")
    for item in found:
        if not isinstance(item, str):
            raise malformed(f"{what} must hold texts, got {kind_of(item)}")
    return found


def encode(document: Any) -> bytes:
    """A document as JSON in UTF-8; half a surrogate pair is escaped.

    Raises:
        ValueError: a number that is not finite, which JSON has no name for.
    """
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":")).encode()


def reply(document: Any) -> Response:
    """The answer that is a document."""
    return Response(encode(document), media_type="application/json")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise _TwiceError(next(key for key, count in counts.items() if count > 1))
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(digits: str) -> float:
    """A number that can be written down as JSON again, which has no name for infinity."""
    found = float(digits)
    if math.isinf(found):
        raise ValueError(digits)
    return found


class _TwiceError(Exception):
    """A key that stands twice."""


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite
)
_NAMES: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
