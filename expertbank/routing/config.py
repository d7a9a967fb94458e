"""How the router is fitted: which kind of gate, and the settings of that kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from expertbank.config import DEFAULT_GATE, DEFAULT_SEED
from expertbank.errors import InputError, NotFoundError
from expertbank.routing.gates import GATES, GateKind
from expertbank.settings import of_pairs, option_of


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
        own, whose = _settings(kind), f"the {kind} gate"
        given = {
            name: option_of(own, name, whose).legal(value, whose)
            for name, value in settings.items()
        }
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "settings", own(**given))

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
        own = _settings(kind)
        seeded = seed is not None and "seed" in {field.name for field in fields(own)}
        given = {"seed": seed} if seeded else {}
        given |= of_pairs(own, pairs, f"the {kind} gate")
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


def _settings(kind: str) -> Any:
    """The class of a gate's settings."""
    if not isinstance(kind, str):
        raise InputError(f"the kind of a gate is its name, got {kind!r}")
    try:
        return GATES.get(kind).settings
    except NotFoundError as error:
        raise InputError(f"unknown gate kind {kind!r}: {error}") from error
