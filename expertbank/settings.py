"""Settings that describe themselves: what a field means stands beside its type and default.

A settings class is a frozen dataclass whose fields are made with ``setting``. The command line's
options, the keys of a list of tasks, what ``--set`` takes, the checks of values and the reference
page all come from there, so that a new setting is one line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from expertbank.errors import InputError, NotFoundError
from expertbank.plain import Numbers, field_types, numbers, several, typed

T = TypeVar("T")
N = TypeVar("N", int, float)
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
        named = {
            "at least": self.least,
            "above": self.above,
            "at most": self.most,
            "below": self.below,
        }
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
        kind: its type, without ``None``: a scalar, a literal, ``Numbers``, or a tuple of text. A
            plugin's may be any other, which is for its own class to check.
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

    def legal(self, value: Any, where: str) -> Any:
        """``value`` in the field's type: 4 and 4.0 are one setting, and so are a list and a tuple.

        Args:
            value: what was given to the class.
            where: the place to name in messages.

        Raises:
            InputError: a value of another type or out of bounds.
        """
        if value is None and self.default is None:
            return None
        if self.kind in _TYPED or get_origin(self.kind) is tuple:
            value = typed(self.kind, value, where, self.field, exact=True)
        self.require(value)
        return value

    def of_text(self, text: str) -> Any:
        """What a text stands for in the field's type; itself where it stands for nothing."""
        if self.default is None and text.lower() == "none":
            return None
        if self.kind is bool:
            return {"true": True, "false": False}.get(text.lower(), text)
        if self.kind in {int, float}:
            with suppress(ValueError):
                return self.kind(text)
        return text

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
            raise InputError(f"{name} must be {self.about.bounds or 'finite'}, got {value}")


def number(
    value: Any,
    name: str,
    where: str,
    kind: type[N],
    *,
    option: str = "",
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
) -> N:
    """A number that is an argument, held to the same as a field made with ``setting``.

    Args:
        value: what was given.
        name: the argument's.
        where: the place to name in messages.
        kind: ``int`` or ``float``.
        option: its name on the command line, where that is another.
        least: as of ``Setting``; so are the others.
        most: see there.
        above: see there.

    Raises:
        InputError: a value of another type or out of bounds.
    """
    about = Setting("", least=least, most=most, above=above)
    found: N = Option(option or name, name, kind, MISSING, about).legal(value, where)
    return found


_TYPED: tuple[Any, ...] = (bool, int, float, str, Numbers)


@cache
def options_of(cls: Any, *, plain: bool = False) -> tuple[Option, ...]:
    """The options of a class, in the order of its fields; one made without ``setting`` is none.

    Args:
        cls: the class.
        plain: take such fields too, of which nothing is known but their type.
    """
    kinds = field_types(cls)
    found = []
    for item in fields(cls):
        kind = _without_none(kinds[item.name])
        if about := item.metadata.get(_KEY):
            if get_origin(kind) is Union and kind != Numbers:
                kind = get_args(kind)[0]  # what a command line can give
            key = about.option or item.name
            found.append(Option(key, item.name, kind, item.default, about))
        elif plain:
            found.append(Option(item.name, item.name, kind, item.default, Setting("")))
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


def option_of(cls: Any, name: str, whose: str) -> Option:
    """One setting of a kind of its own.

    Raises:
        InputError: it has no such setting.
    """
    own = {option.field: option for option in options_of(cls, plain=True)}
    if name not in own:
        hint = "" if own else "it has none"
        raise InputError(str(NotFoundError.of(f"setting of {whose}", name, tuple(own), hint)))
    return own[name]


def of_pairs(cls: Any, pairs: Iterable[str], whose: str) -> dict[str, Any]:
    """By field what ``NAME=VALUE`` on a command line stands for.

    Args:
        cls: a settings class.
        pairs: what a user gave.
        whose: whose settings they are, for messages.

    Raises:
        InputError: no such pair, no such setting, or a value that is not legal.
    """
    given = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"a setting is NAME=VALUE, got {pair!r}")
        option = option_of(cls, name, whose)
        given[name] = option.legal(option.of_text(text), whose)
    return given


def pairs_of(settings: Any) -> tuple[str, ...]:
    """Every setting as ``of_pairs`` reads it; those that are left open are left out."""
    kind: Any = type(settings)
    values = {one.field: getattr(settings, one.field) for one in options_of(kind, plain=True)}
    return tuple(
        f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in values.items()
        if value is not None
    )


def check(settings: Any) -> None:
    """Hold settings to their types and bounds; to be called when they are built.

    Raises:
        InputError: as ``Option.legal``.
    """
    kind: Any = type(settings)
    for option in options_of(kind):
        value = option.legal(getattr(settings, option.field), kind.__name__)
        object.__setattr__(settings, option.field, value)


def _without_none(kind: Any) -> Any:
    """A field's type when it is given: ``None`` is how it is left out."""
    if get_origin(kind) in {Union, UnionType}:
        return Union[tuple(one for one in get_args(kind) if one is not NoneType)]  # noqa: UP007
    return kind


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
