"""Plain values, as YAML and JSON give them, read into frozen dataclasses by the fields' types.

Every message names the place it concerns, so that a slip in a list of tasks, a catalog entry or a
stored spec is found at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from expertbank.errors import InputError

T = TypeVar("T")
Numbers: TypeAlias = int | tuple[int, ...]
"""One whole number, or several; as text with commas between."""
_short = Repr()
_short.maxlevel = 2  # YAML's aliases make endless values of small files


@cache
def field_types(cls: Any) -> dict[str, Any]:
    """The type of each field of a dataclass, by name."""
    hints = get_type_hints(cls)
    return {item.name: hints[item.name] for item in fields(cls)}


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


def read(cls: type[T], value: object, where: str) -> T:
    """The dataclass ``cls`` from a mapping with its fields' names; nested ones likewise.

    Null and empty text stand for a field that is absent.

    Raises:
        InputError: no mapping, an unknown key, a missing one, or a value of another type.
    """
    kind: Any = cls
    types = field_types(kind)
    given = mapping(value, where, list(types))
    found = {
        key: typed(types[key], item, where, key)
        for key, item in given.items()
        if item is not None and item != ""
    }
    for item in fields(kind):
        if item.name not in found and item.default is item.default_factory is MISSING:
            raise InputError(f"{where}: {item.name} is missing")
    return cls(**found)


def typed(kind: Any, value: object, where: str, key: str) -> Any:
    """``value`` as ``kind``: a scalar, a literal, a dataclass, a tuple of these, or optional.

    One text alone stands for a list of one; a mapping for pairs of text. Whether a literal is
    among those allowed is for the class to say that owns it.

    Raises:
        InputError: it is of another type.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind == Numbers:
        return numbers(value, f"{where}: ", key)
    if origin in {Union, UnionType}:
        if value is None and NoneType in inner:
            return None
        return typed(next(one for one in inner if one is not NoneType), value, where, key)
    if isinstance(kind, type) and is_dataclass(kind):
        return read(kind, value, f"{where}: {key}")
    if origin is tuple:
        return _tuple(inner[0], value, where, key)
    wanted, fits = _SCALARS.get(kind, ("text", lambda value: isinstance(value, str)))
    if not fits(value):
        hint = " (quote it)" if wanted == "text" else ""
        raise InputError(f"{where}: {key} must be {wanted}, got {_short.repr(value)}{hint}")
    return float(value) if kind is float else value  # type: ignore[arg-type]  # it fits


def _tuple(inner: Any, value: object, where: str, key: str) -> tuple[Any, ...]:
    if get_origin(inner) is tuple and isinstance(value, Mapping):
        value = list(value.items())
        if not all(isinstance(text, str) for pair in value for text in pair):
            raise InputError(f"{where}: {key} must map text to text (quote numbers)")
        return tuple(value)
    if inner is str and isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(f"{where}: {key} must be a list, got {_short.repr(value)}")
    return tuple(typed(inner, item, where, f"{key}[{place}]") for place, item in enumerate(value))


def numbers(value: object, where: str, key: str) -> Numbers:
    """``9,2,9`` or a list as a tuple, a single number as itself.

    Raises:
        InputError: it is neither.
    """
    parts: Sequence[Any] = value.split(",") if isinstance(value, str) else [value]
    parts = value if isinstance(value, list | tuple) else parts
    texts = [isinstance(one, str) and one.strip().isdecimal() for one in parts]
    if not parts or not all(t or type(one) is int for t, one in zip(texts, parts, strict=True)):
        told = _short.repr(value)
        raise InputError(f"{where}{key} must be a whole number, or several as 9,2,9, got {told}")
    found = tuple(int(one) for one in parts)
    return found[0] if len(found) == 1 else found


def several(value: Numbers | None) -> tuple[int, ...]:
    """One number or several as several."""
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:  # YAML takes 5e-3 for text
        float(value)
    except (ValueError, OverflowError):
        return False
    return True


_SCALARS: dict[Any, tuple[str, Callable[[object], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: type(value) is int),
    float: ("a number", _is_number),
}


def plain(value: Any) -> Any:
    """Tuples to lists, all the way down, so that the JSON form reads back equal."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
