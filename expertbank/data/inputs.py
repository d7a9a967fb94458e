"""What callers give as rows, made canonical: one way in for bank, bundle, command line and server.

A text is one row, and so are a ``Row`` and a mapping with ``text``. Lists, generators, arrays of
texts, and the tables of pandas and ``datasets`` are rows. What is missing is ``None``, NaN or
pandas' ``NA``. None of these libraries is imported here: a table shows by its methods what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from expertbank.errors import DataError, InputError
from expertbank.kinds.choices import choices_of
from expertbank.records import Row
from expertbank.texts import filled_text, is_absent, optional_text

RowLike = Row | str | Mapping[str, Any]
"""One row: canonical, a text, or a mapping with ``text`` and maybe ``text_pair``, ``choices``."""

KEYS = ("text", "text_pair", "choices")
_NO_SLIPS = {*KEYS, "choice"}
"""A ``choice`` is a key of answers, which other programs are given and give back."""
_LOOKED_AT, _LONGEST_SLIP = 20, 16
"""So many other keys are looked at for slips, of so many letters at most."""
_EXPECTED = "expected a text, a mapping with 'text', or a Row"


def as_rows(given: object) -> list[Row | InputError] | Iterator[Row | InputError]:
    """Canonical rows of whatever holds rows; in the place of one that is malformed, what is wrong.

    What lies in memory is read at once, into a list. A stream (an iterator, or a data set of
    ``datasets``) is read as its rows are asked for.

    Args:
        given: one row, or rows: an iterable of rows, a pandas DataFrame with a column ``text`` or
            a Series, a numpy array of texts, or a data set of ``datasets``. Columns and keys
            other than ``text``, ``text_pair`` and ``choices`` are left aside.

    Raises:
        InputError: nothing that holds rows, or a table without a column ``text``.
    """
    if isinstance(given, (Row, str, Mapping)):
        return [_row(given, 0)]
    if hasattr(given, "column_names") and isinstance(given, Iterable):
        return _numbered(_of_dataset(given))
    if hasattr(given, "itertuples"):
        return list(_numbered(_of_frame(given)))
    if hasattr(given, "iloc"):
        column: Any = given
        whole = "text" in column.index
        return list(_numbered([column] if whole else ({"text": text} for text in column)))
    shape, kind = getattr(given, "shape", None), getattr(getattr(given, "dtype", None), "kind", "O")
    if isinstance(given, (bytes, bytearray)) or not isinstance(given, Iterable):
        raise InputError(f"rows are given as {type(given).__name__}; {_EXPECTED}, or many of them")
    if (shape is not None and len(shape) != 1) or kind not in "OUT":
        raise InputError(
            f"rows are given as {type(given).__name__} of shape {shape} and type "
            f"{getattr(given, 'dtype', None)}; expected one dimension and texts"
        )
    if isinstance(given, Iterator) or not hasattr(given, "__len__"):
        return _numbered(given)
    return list(_numbered(given))


def row_of(values: Mapping[str, Any], origin: str) -> Row:
    """The row of ``text``, ``text_pair`` and ``choices``; other keys are ignored.

    Args:
        values: what the row brings.
        origin: what to call it in messages.

    Raises:
        DataError: no text, a value of the wrong kind, or a key that looks like a slip.
    """
    _require_text([str(key) for key in values], origin)
    choices = values.get("choices")
    found = () if is_absent(choices) else choices_of(values, ("choices",), origin)[0]
    text = filled_text(values, "text", origin)
    return Row(text, optional_text(values, "text_pair", origin), found, origin=origin)


def _require_text(names: Sequence[str], origin: str) -> None:
    # What is like a key takes its time to find, and whoever sends many others slips in none.
    others = [name for name in names if name not in _NO_SLIPS and len(name) <= _LONGEST_SLIP]
    for name in others[:_LOOKED_AT]:
        near = get_close_matches(name.lower(), KEYS, n=1, cutoff=0.85)
        if near and near[0] not in names:
            raise DataError(f"{origin}: unknown key {name!r}; did you mean {near[0]!r}?")
    if "text" not in names:
        raise DataError(f"{origin}: no key 'text'; keys found: {', '.join(names) or 'none'}")


def _numbered(given: Iterable[object]) -> Iterator[Row | InputError]:
    return (_row(value, index) for index, value in enumerate(given))


def _row(value: Any, index: int) -> Row | InputError:
    """One row of whatever callers give for one; messages count rows from 0, as answers do."""
    origin = f"row {index}"
    try:
        if isinstance(value, InputError):
            return value
        if isinstance(value, Row):
            origin = value.origin or origin
            own: dict[str, Any] = {"text": value.text, "text_pair": value.text_pair}
            if value.choices:
                own["choices"] = value.choices
            plain = row_of(own, origin)
            return replace(value, text=plain.text, text_pair=plain.text_pair, choices=plain.choices)
        if isinstance(value, str):
            return row_of({"text": value}, origin)
        if hasattr(value, "keys"):
            # A mapping, or a row of pandas or sqlite3, which iterate over their values.
            return row_of({key: value[key] for key in value.keys()}, origin)  # noqa: SIM118
        raise DataError(f"{origin}: {_EXPECTED}; got {type(value).__name__}")
    except InputError as error:
        return error


def _of_frame(frame: Any) -> Iterator[Mapping[str, Any]]:
    """Records of a pandas DataFrame."""
    names = [str(name) for name in frame.columns]
    _require_text(names, "the table")
    used = [name for name in KEYS if name in names]
    if any(names.count(name) > 1 for name in used):
        raise InputError(f"the table has a column twice: {', '.join(names)}")
    columns = [frame[name] for name in used]
    return (dict(zip(used, cells, strict=True)) for cells in zip(*columns, strict=True))


def _of_dataset(data: Any) -> Iterable[Mapping[str, Any]]:
    """The rows of a data set of ``datasets``, of its needed columns where it can tell them."""
    names = data.column_names
    if names is None:  # a stream whose columns only its rows tell
        return data  # type: ignore[no-any-return]  # the library's types are not known here
    _require_text(names, "the data set")
    return data.select_columns([name for name in KEYS if name in names])  # type: ignore[no-any-return]  # as above
