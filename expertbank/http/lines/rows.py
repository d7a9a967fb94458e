"""The rows in a body of JSON lines, or of one JSON document."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from typing import Any

from expertbank.data.formats.json_rows import parse_object, read_array, read_lines
from expertbank.data.formats.lines import Line
from expertbank.data.formats.table import Found
from expertbank.data.inputs import row_of
from expertbank.errors import DataError, InputError
from expertbank.http.problems import malformed
from expertbank.records import Row

LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
"""Media types; the first is that of answers."""


def read_rows(body: bytes, *, lines: bool) -> list[Row | InputError]:
    """The rows in a body, or what is wrong with one in its place.

    Args:
        body: JSON lines, an array of objects, or one object.
        lines: whether each line is a document of its own.

    Raises:
        RefusedError: nothing is there.
    """
    body = body.removeprefix(BOM_UTF8)
    if not body.strip():
        raise malformed('the body is empty; send rows such as {"text": "..."}')
    if not lines and body.lstrip()[:1] != b"[":
        try:
            return [_row(parse_object(_decoded(body, "the row"), "the row"), "the row")]
        except DataError as error:
            return [_several(error)]
    return [
        one if isinstance(one, DataError) else _row(one.values, one.origin) for one in _found(body)
    ]


def _several(error: DataError) -> DataError:
    """What is wrong with a body that is no JSON; lines of JSON need a media type of their own."""
    cause = error.__cause__
    if isinstance(cause, json.JSONDecodeError) and cause.msg == "Extra data":
        hint = f"send several rows as one array, or as lines with Content-Type: {LINES[0]}"
        return DataError(f"{error}; {hint}", "JSON")
    return error


def _found(body: bytes) -> Iterator[Found]:
    if body.lstrip()[:1] != b"[":
        yield from read_lines(_lines(body), "body")
        return
    try:
        yield from read_array(_decoded(body, "body"), "body")
    except DataError as error:
        yield error


def _lines(body: bytes) -> Iterator[Line]:
    for number, line in enumerate(body.split(b"\n"), start=1):
        try:
            yield number, _decoded(line, f"body:{number}") + "\n"
        except DataError as error:
            yield number, error


def _decoded(data: bytes, origin: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{origin}: not UTF-8", "JSON") from None


def _row(values: Mapping[str, Any], origin: str) -> Row | InputError:
    try:
        return row_of(values, origin)
    except DataError as error:
        return error
