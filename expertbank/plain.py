"""Plain values, as YAML and JSON give them, read into frozen dataclasses by the fields' types.

Every message names the place it concerns, so that a slip in a list of tasks, a catalog entry or a
stored spec is found at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from numbers import Integral, Real
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from expertbank.errors import InputError

T = TypeVar("T")
Numbers: TypeAlias = int | tuple[int, ...]
"""One whole number, or several; as text with commas between."""
_DIGITS = 20
"""Most digits of a whole number in text: Python reads none of some thousand."""
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


def settle(value: Any, where: str) -> None:
    """Give each field of a frozen dataclass its own type; to be called when it is built.

    Lists become tuples and mappings what they stand for, so that what Python gives and what is
    read from YAML or JSON are one value.

    Raises:
        InputError: a value of another type; the message names the field.
    """
    cls: Any = type(value)
    for name, kind in field_types(cls).items():
        found = typed(kind, getattr(value, name), where, name, exact=True)
        object.__setattr__(value, name, found)


def typed(kind: Any, value: object, where: str, key: str, *, exact: bool = False) -> Any:
    """``value`` as ``kind``: a scalar, a literal, a dataclass, a tuple of these, or optional.

    A mapping stands for pairs of text, and for a dataclass. Whether a literal is among those
    allowed is for the class to say that owns it.

    Args:
        kind: the type.
        value: what was given.
        where: the place to name in messages.
        key: the key to name in messages.
        exact: refuse what is short or odd in YAML and a slip in Python: one text alone for a list
            of one, and a number that is text.

    Raises:
        InputError: it is of another type.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind == Numbers:
        return numbers(value, f"{where}: ", key)
    if origin in {Union, UnionType}:
        if value is None and NoneType in inner:
            return None
        kind = next(one for one in inner if one is not NoneType)
        return typed(kind, value, where, key, exact=exact)
    if isinstance(kind, type) and is_dataclass(kind):
        return value if isinstance(value, kind) else read(kind, value, f"{where}: {key}")
    if origin is tuple:
        return _tuple(inner, value, where, key, exact=exact)
    wanted, fits = _SCALARS.get(kind, ("text", lambda value: isinstance(value, str)))
    if not fits(value) or (exact and kind is float and isinstance(value, str)):
        hint = " (quote it)" if wanted == "text" else ""
        raise InputError(f"{where}: {key} must be {wanted}, got {_short.repr(value)}{hint}")
    return kind(value) if kind in {int, float} else value


def _tuple(
    inner: tuple[Any, ...], value: object, where: str, key: str, *, exact: bool
) -> tuple[Any, ...]:
    """A list as a tuple: of any length, or a pair."""
    kind, pair = inner[0], inner[-1] is not Ellipsis
    if get_origin(kind) is tuple and isinstance(value, Mapping):
        value = list(value.items())
        if not all(isinstance(text, str) for one in value for text in one):
            raise InputError(f"{where}: {key} must map text to text (quote numbers)")
        return tuple(value)
    if kind is str and isinstance(value, str) and not (exact or pair):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(f"{where}: {key} must be a list, got {_short.repr(value)}")
    if pair and len(value) != len(inner):
        raise InputError(f"{where}: {key} must be a pair, got {_short.repr(value)}")
    return tuple(
        typed(kind, item, where, f"{key}[{place}]", exact=exact) for place, item in enumerate(value)
    )


def numbers(value: object, where: str, key: str) -> Numbers:
    """``9,2,9`` or a list as a tuple, a single number as itself.

    Raises:
        InputError: it is neither.
    """
    parts: Sequence[Any] = value.split(",") if isinstance(value, str) else [value]
    parts = value if isinstance(value, list | tuple) else parts
    texts = [
        isinstance(one, str) and one.strip().isdecimal() and len(one) <= _DIGITS for one in parts
    ]
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


def texts(value: object, what: str) -> tuple[str, ...]:
    """One text or several as several; a text is one, and no sequence of letters.

    Raises:
        InputError: anything else.
    """
    found = (value,) if isinstance(value, str) else value
    if not isinstance(found, Iterable) or isinstance(found, bytes | Mapping):
        raise InputError(f"{what} must be text, or several in a list, got {_short.repr(value)}")
    return tuple(typed(str, one, what, f"number {place}") for place, one in enumerate(found, 1))


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real | str):
        return False
    try:  # YAML takes 5e-3 for text
        float(value)
    except (ValueError, OverflowError):
        return False
    return True


_SCALARS: dict[Any, tuple[str, Callable[[object], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", _is_whole),
    float: ("a number", _is_number),
}


def plain(value: Any) -> Any:
    """The JSON form of records and whatever is in them: it reads back equal.

    A dataclass is a mapping by its fields' names, and a tuple a list, all the way down.
    """
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
