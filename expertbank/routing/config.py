"""How the router is fitted: which kind of gate, and the settings of that kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from expertbank.config import DEFAULT_GATE, DEFAULT_SEED
from expertbank.errors import InputError, NotFoundError
from expertbank.routing.gates import GATES, GateKind
from expertbank.settings import Option, options_of


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
        own = _options(kind)
        given = {
            name: _option(kind, own, name).legal(value, f"the {kind} gate")
            for name, value in settings.items()
        }
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "settings", GATES.get(kind).settings(**given))

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
        own = _options(kind)
        given: dict[str, Any] = {"seed": seed} if seed is not None and "seed" in own else {}
        for pair in pairs:
            name, equals, text = pair.partition("=")
            if not equals:
                raise InputError(f"a setting is NAME=VALUE, got {pair!r}")
            given[name] = _option(kind, own, name).of_text(text)
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


def _options(kind: str) -> dict[str, Option]:
    """The settings of a kind of gate, by name; a plugin's may be plain fields."""
    if not isinstance(kind, str):
        raise InputError(f"the kind of a gate is its name, got {kind!r}")
    try:
        settings: Any = GATES.get(kind).settings
    except NotFoundError as error:
        raise InputError(f"unknown gate kind {kind!r}: {error}") from error
    return {option.field: option for option in options_of(settings, plain=True)}


def _option(kind: str, own: Mapping[str, Option], name: str) -> Option:
    """One of a gate's settings.

    Raises:
        InputError: it has no such setting.
    """
    if name not in own:
        hint = "" if own else "it has none"
        raise InputError(
            str(NotFoundError.of(f"setting of the {kind} gate", name, tuple(own), hint))
        )
    return own[name]
