"""Settings that describe themselves: what a field means stands beside its type and default.

A settings class is a frozen dataclass whose fields are made with ``setting``. The command line's
options, the keys of a list of tasks, the checks of values and the reference page all come from
there, so that a new setting is one line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from expertbank.errors import InputError
from expertbank.plain import Numbers, field_types, numbers, several, typed

T = TypeVar("T")
_KEY = "setting"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a field says of itself.

    Attributes:
        help: what it means, as one or two sentences.
        option: its name on the command line and in lists, where that is not the field's.
        least: smallest value allowed; with ``above``, all that is larger.
        most: largest value allowed; with ``below``, all that is smaller.
        above: bound that the value must exceed.
        below: bound that the value must stay under.
        unset: what ``None`` means.
        unit: how many of the field's units make one of the option's.
    """

    help: str
    option: str = ""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    unset: str = ""
    unit: int = 1

    @property
    def bounds(self) -> str:
        """The values allowed, in words; empty where there is no bound."""
        if self.least is not None and self.most is not None:
            return f"{_number(self.least)} to {_number(self.most)}"
        named = {"at least": self.least, "above": self.above, "below": self.below}
        return " and ".join(
            f"{word} {_number(end)}" for word, end in named.items() if end is not None
        )

    def allows(self, value: float) -> bool:
        """Whether a number is within the bounds; what is not finite never is."""
        return (
            -math.inf < value < math.inf
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def setting(
    default: T,
    help: str,
    *,
    option: str = "",
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    unset: str = "",
    unit: int = 1,
) -> T:
    """A field of a settings class; for the arguments see ``Setting``."""
    about = Setting(help, option, least, most, above, below, unset, unit)
    return field(default=default, metadata={_KEY: about})


@dataclass(frozen=True, slots=True)
class Option:
    """One field of a settings class as a user gives it.

    Attributes:
        key: its name in lists, and with ``--`` and dashes on the command line.
        field: its name in the class.
        kind: its type, without ``None``: a scalar, a literal, ``Numbers``, or a tuple of text.
        default: the field's default.
        about: what the field says of itself.
    """

    key: str
    field: str
    kind: Any
    default: Any
    about: Setting

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.key.replace("_", "-")

    @property
    def shown_default(self) -> str:
        """What holds where nothing is given, in the option's unit; empty where nothing does."""
        if self.default is None or self.default is False or self.default == ():
            return self.about.unset
        if self.about.unit > 1:
            return _number(self.default // self.about.unit)
        return self.default if isinstance(self.default, str) else _number(self.default)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words allowed, where it is a choice among words."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    def require(self, value: Any) -> None:
        """Refuse what is not legal.

        Raises:
            InputError: the message names the field and what it may be.
        """
        if value == "" or (get_origin(self.kind) is tuple and "" in value):
            raise InputError(f"{self.key} must not be empty; leave it out if it is not meant")
        if self.choices and value not in self.choices:
            raise InputError(f"{self.key} must be {_either(self.choices)}, got {value!r}")
        if self.kind == Numbers:
            odd = [one for one in several(value) if not self.about.allows(one)]
            if odd:
                raise InputError(f"{self.key} must be {self.about.bounds}, got {odd[0]}")
        if self.kind in {int, float} and not self.about.allows(value):
            name = self.field if self.field == self.key else f"{self.field} ({self.flag})"
            raise InputError(f"{name} must be {self.about.bounds}, got {value}")


@cache
def options_of(cls: Any) -> tuple[Option, ...]:
    """The options of a class, in the order of its fields; one made without ``setting`` is none."""
    kinds = field_types(cls)
    found = []
    for item in fields(cls):
        if about := item.metadata.get(_KEY):
            key = about.option or item.name
            found.append(Option(key, item.name, _given_as(kinds[item.name]), item.default, about))
    return tuple(found)


def build(cls: type[T], given: Mapping[str, Any], **values: Any) -> T:
    """The settings of ``cls`` that a user gave by option keys; other keys are left alone.

    Args:
        cls: the class.
        given: by option key what was given.
        values: fields that are no options.

    Raises:
        InputError: a value that is not legal.
    """
    kind: Any = cls
    for option in options_of(kind):
        if option.key in given:
            value = given[option.key]
            value = tuple(value) if get_origin(option.kind) is tuple else value
            value = numbers(value, "", option.key) if option.kind == Numbers else value
            if option.kind not in {int, float}:  # whose bounds are in the field's unit
                option.require(value)
            values[option.field] = value if option.about.unit == 1 else value * option.about.unit
    return cls(**values)


def check(settings: Any) -> None:
    """Refuse settings of another type or out of bounds; to be called when they are built.

    A whole number where a fraction may stand becomes one, and a list a tuple: 4 and 4.0 are one
    setting.

    Raises:
        InputError: a value that is not legal.
    """
    kind: Any = type(settings)
    for option in options_of(kind):
        value = getattr(settings, option.field)
        if value is None and option.default is None:
            continue
        if not option.choices:  # of which ``require`` tells
            value = typed(option.kind, value, kind.__name__, option.field, exact=True)
            object.__setattr__(settings, option.field, value)
        option.require(value)


def _given_as(kind: Any) -> Any:
    """A field's type when it is given: ``None`` is how it is left out."""
    if get_origin(kind) in {Union, UnionType}:
        inner = tuple(one for one in get_args(kind) if one is not NoneType)
        if inner == get_args(Numbers):
            return Numbers
        return next(one for one in get_args(kind) if one is not NoneType)
    return kind


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
