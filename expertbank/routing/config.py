"""How the router is fitted: which kind of gate, and the settings of that kind."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from expertbank.config import DEFAULT_GATE, DEFAULT_SEED
from expertbank.errors import InputError, NotFoundError
from expertbank.routing.gates import GATES, GateKind


@dataclass(frozen=True, init=False)
class RouterConfig:
    """How the router is fitted, on what the bank keeps of its tasks' rows.

    ``RouterConfig("mlp", hidden=64)``: every other argument is a setting of that kind.

    Attributes:
        kind: ``lda`` or ``ridge`` (closed forms), ``noisy-top1`` (the paper's gate), ``mlp`` (one
            hidden layer), or what a plugin brings.
        settings: that kind's own settings.

    Raises:
        InputError: no such kind, no such setting, or a value that is not legal.
    """

    kind: str
    settings: Any

    def __init__(self, kind: str = DEFAULT_GATE, **settings: Any) -> None:
        gate = _gate(kind)
        given = {
            name: _legal(name, _hint(kind, gate, name), value) for name, value in settings.items()
        }
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "settings", gate.settings(**given))

    @classmethod
    def of_text(
        cls, kind: str = DEFAULT_GATE, pairs: Iterable[str] = (), seed: int | None = None
    ) -> RouterConfig:
        """From what a command line gives.

        Args:
            kind: the kind of gate.
            pairs: ``NAME=VALUE``, each a setting of that kind.
            seed: for kinds that have a setting of this name; the others draw nothing.

        Raises:
            InputError: as the class itself, or a value that is no such number.
        """
        gate = _gate(kind)
        seeded = seed is not None and "seed" in _names(gate)
        given: dict[str, Any] = {"seed": seed} if seeded else {}
        for pair in pairs:
            name, equals, text = pair.partition("=")
            if not equals:
                raise InputError(f"a setting is NAME=VALUE, got {pair!r}")
            given[name] = _value(name, _hint(kind, gate, name), text)
        return cls(kind, **given)

    @property
    def gate(self) -> GateKind[Any]:
        """The kind of gate itself."""
        return GATES.get(self.kind)

    @property
    def seed(self) -> int:
        """The seed of kinds that have one."""
        return int(getattr(self.settings, "seed", DEFAULT_SEED))

    def to_dict(self) -> dict[str, Any]:
        """The kind and its settings side by side, as a run stores them."""
        return {"kind": self.kind, **asdict(self.settings)}


def _gate(kind: str) -> GateKind[Any]:
    if not isinstance(kind, str):
        raise InputError(f"the kind of a gate is its name, got {kind!r}")
    try:
        return GATES.get(kind)
    except NotFoundError as error:
        raise InputError(f"unknown gate kind {kind!r}: {error}") from error


def _names(gate: GateKind[Any]) -> list[str]:
    return [field.name for field in fields(gate.settings)]


def _hint(kind: str, gate: GateKind[Any], name: str) -> Any:
    """The annotation of a gate's setting.

    Raises:
        InputError: it has no such setting.
    """
    known = _names(gate)
    if name not in known:
        hint = "" if known else "it has none"
        raise InputError(str(NotFoundError.of(f"setting of the {kind} gate", name, known, hint)))
    return get_type_hints(gate.settings)[name]


def _options(hint: Any) -> tuple[Any, ...]:
    """The types that an annotation allows."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _legal(name: str, hint: Any, value: Any) -> Any:
    """``value`` if the setting's annotation allows it; a whole number may stand for any number.

    What a kind says in other types than plain ones is for its settings to check.

    Raises:
        InputError: a plain value of another type.
    """
    options = _options(hint)
    if set(options) - _PLAIN.keys():
        return value
    if value is None or isinstance(value, bool | str):
        if type(value) in options:
            return value
    elif isinstance(value, Integral) and int in options:
        return int(value)
    elif isinstance(value, Real) and float in options:
        with suppress(OverflowError):
            return float(value)
    raise InputError(f"{name} takes {_words(options)}, got {value!r}")


def _value(name: str, hint: Any, text: str) -> Any:
    """``text`` as the setting's annotation wants it; what is not a plain number stays text."""
    options = _options(hint)
    if NoneType in options and text.lower() == "none":
        return None
    if bool in options and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for plain in (int, float, str):
        if plain in options:
            try:
                return plain(text)
            except ValueError:
                continue
    if not _PLAIN.keys() & set(options):
        return text
    raise InputError(f"{name} takes {_words(options)}, got {text!r}")


def _words(options: Iterable[Any]) -> str:
    return " or ".join(_PLAIN[option] for option in options if option in _PLAIN)


_PLAIN: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "none",
}
"""The plain types of settings, each in words."""
