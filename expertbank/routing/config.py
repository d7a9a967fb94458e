"""How the router is fitted: which kind of gate, and the settings of that kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
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
        known = [field.name for field in fields(gate.settings)]
        for name in settings:
            if name not in known:
                what = f"setting of the {kind} gate"
                hint = "" if known else "it has none"
                raise InputError(str(NotFoundError.of(what, name, known, hint)))
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "settings", gate.settings(**settings))

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
        hints = get_type_hints(_gate(kind).settings)
        given: dict[str, Any] = {} if seed is None or "seed" not in hints else {"seed": seed}
        for pair in pairs:
            name, equals, text = pair.partition("=")
            if not equals:
                raise InputError(f"a setting is NAME=VALUE, got {pair!r}")
            given[name] = _value(name, hints[name], text) if name in hints else text
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
    try:
        return GATES.get(kind)
    except NotFoundError as error:
        raise InputError(f"unknown gate kind {kind!r}: {error}") from error


def _value(name: str, hint: Any, text: str) -> Any:
    """``text`` as the setting's annotation wants it; what is not a plain number stays text."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
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
    words = {bool: "true or false", int: "a whole number", float: "a number", NoneType: "none"}
    wanted = [words[option] for option in options if option in words]
    if not wanted:
        return text
    raise InputError(f"{name} takes {' or '.join(wanted)}, got {text!r}")
