"""The shapes that choices come in, and the position of the right one.

A row's label is the zero-based position of the right choice, as text, whatever the data calls it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from expertbank.errors import DataError
from expertbank.kinds.labels import listed
from expertbank.kinds.rules import RawLabel
from expertbank.texts import as_python_prints, is_blank, plain_text


def first_places(choices: Sequence[str]) -> tuple[int, ...]:
    """Per choice the place of the first of the same text; empty where all differ."""
    found = tuple(map(choices.index, choices))
    return () if len(set(found)) == len(found) else found


def choices_of(
    values: Mapping[str, Any], columns: tuple[str, ...], origin: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Choices of a row and the keys that a label may name them by, if the data has keys.

    Shapes: one column for each choice; one column with a list of texts; one with an object of
    parallel lists, ``{"label": [...], "text": [...]}``; one with a list of objects,
    ``[{"label": ..., "text": ...}]``; one with any of these as JSON text, as in a CSV cell.

    Raises:
        DataError: fewer than two choices, an empty one, or none of these shapes.
    """
    if not columns:
        return (), ()
    keys: Sequence[Any] = ()
    if len(columns) > 1:
        texts: Sequence[Any] = [values.get(column) for column in columns]
    else:
        texts, keys = _one_column(values.get(columns[0]), columns[0], origin)
    plain = [plain_text(text, origin, columns[0]) for text in texts]
    choices = tuple(text for text in plain if text is not None and not is_blank(text))
    if len(choices) < 2 or len(choices) != len(plain):
        raise DataError(f"{origin}: needs at least two choices, none of them empty", "choices")
    if keys and len(keys) != len(choices):
        raise DataError(
            f"{origin}: {len(keys)} choice labels for {len(choices)} choices", "choices"
        )
    return choices, tuple(str(key) for key in keys)


def _one_column(value: Any, column: str, origin: str) -> tuple[Sequence[Any], Sequence[Any]]:
    """Texts and keys of a column that holds all choices; an array stands for its list."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str) and value.lstrip()[:1] in {"[", "{"}:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{origin}: column {column!r} holds no valid JSON list of choices: {error}"
                + as_python_prints(value),
                "choices",
            ) from error
    if isinstance(value, Mapping):
        if "text" not in value:
            raise DataError(
                f"{origin}: column {column!r} holds an object with the keys "
                f"{listed(list(map(str, value)))}; choices with keys of their own are "
                '{"label": ["A", "B"], "text": ["one", "two"]}, others a list: ["one", "two"]',
                "choices",
            )
        texts, keys = value.get("text") or (), value.get("label") or ()
        if isinstance(texts, (list, tuple)) and isinstance(keys, (list, tuple)):
            return texts, keys
    elif isinstance(value, (list, tuple)):
        if value and all(isinstance(item, Mapping) for item in value):
            keys = [item["label"] for item in value if item.get("label") is not None]
            return [item.get("text") for item in value], keys
        return value, ()
    raise DataError(
        f"{origin}: column {column!r} must hold a list of choices, such as "
        '["one", "two"], or name one column for each choice',
        "choices",
    )


def position_of(label: RawLabel) -> str:
    """Zero-based position of the right choice, as text.

    What may name it, in this order: the data's own keys; the task's ``labels``, which stand for
    the positions; without these the choice's text, a zero-based position, or a capital letter
    from ``A``.

    Raises:
        DataError: it names no choice of this row, or one by its text and another by its place.
    """
    raw, choices, origin = label.value, label.choices, label.origin
    names = label.keys or label.rules.labels
    known = names or choices
    place = known.index(raw) if raw in known[: len(choices)] else None
    if not names:
        by_place = _place(raw, len(choices))
        if place is None:
            place = by_place
        elif by_place is not None and choices[by_place] != raw:
            raise DataError(
                f"{origin}: label {raw!r} is the text of one choice and the place of another; if "
                "it is the place, list labels in a task file, such as "
                f"labels: [{', '.join(repr(_name(n, raw)) for n in range(2))}, …]; if the text, "
                'give the choices with keys of their own: {"label": […], "text": […]}',
                "a label of two meanings",
            )
    if place is None:
        shown = [*known[:10], *(["…"] if len(known) > 10 else [])]
        hint = (
            ""
            if names
            else "; positions count from 0; for other names of the choices list them as labels "
            'in a task file, such as labels: ["1", "2"]'
        )
        raise DataError(f"{origin}: label {raw!r} names none of {shown}{hint}", "unknown label")
    return str(place)


def _place(raw: str, count: int) -> int | None:
    """The place that a short number or a capital letter means, if there is one."""
    named = range(min(count, 26) if raw.isalpha() else count)
    return next((place for place in named if _name(place, raw) == raw), None)


def _name(place: int, like: str) -> str:
    """What calls a place, in the manner of ``like``."""
    return chr(ord("A") + place) if like.isalpha() else str(place)
