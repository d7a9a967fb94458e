"""Gates: what scores features ``[rows, dimension]`` for columns ``[rows, columns]``, and no more.

A kind of gate is one ``GateKind`` in a file of its own: its settings, how it is fitted, how a
fitted one is read back. Add yours with ``GATES.register("name", kind)``, or with an entry point
of the group ``expertbank.gates``; nothing else in expertbank asks which kind a gate is. This
module imports no torch before ``Examples``, ``Rows`` or ``Block`` is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from expertbank.errors import InputError
from expertbank.plugins import Plugins, unlike

if TYPE_CHECKING:
    from torch import Tensor

    from expertbank.routing.examples import Block, Examples, Rows

__all__ = [
    "GATES",
    "Block",
    "Examples",
    "Gate",
    "GateKind",
    "Rows",
    "fitted_from_moments",
]

S = TypeVar("S")


class Gate(Protocol):
    """A fitted gate; immutable, and safe for threads."""

    @property
    def dimension(self) -> int:
        """Width of the features it reads."""

    @property
    def columns(self) -> int:
        """How many columns it scores."""

    @property
    def parameter_count(self) -> int:
        """Numbers that decide."""

    def scores(self, features: Tensor) -> Tensor:
        """``[rows, columns]`` float64 of ``features [rows, dimension]``; higher is likelier.

        Finite: a softmax over a row's scores, divided by a temperature, is taken for
        probabilities. A row's scores must not depend on the rows beside it.
        """

    def only(self, columns: Sequence[int]) -> Gate:
        """The gate with only these columns, in this order; their scores stay what they were."""

    def tensors(self) -> dict[str, Tensor]:
        """What it stores, by name; no name starts with ``unknown.``."""

    def facts(self) -> dict[str, Any]:
        """What it stores that is not a tensor, as plain JSON."""


@dataclass(frozen=True, slots=True)
class GateKind(Generic[S]):
    """Everything that differs between kinds of gate.

    Attributes:
        settings: a frozen dataclass with a default for every field, made as
            ``expertbank.settings`` says.
        fit: a gate of examples; the same examples and settings give the same gate.
        read: the gate of what ``tensors`` and ``facts`` gave. Takes what it uses out of the
            tensors. They come from a file that anyone may have written: they are finite, and
            nothing else is known of them. Raises ``IntegrityError``, or ``KeyError``,
            ``TypeError`` or ``ValueError``, for anything that is not such a gate.
        fit_moments: a gate of the moments of each block of columns alone; ``None`` for kinds
            that need the rows, which a bank that keeps statistics only does not have.

    Raises:
        InputError: settings that are no dataclass, or that have a field named ``kind``.
    """

    settings: type[S]
    fit: Callable[[Examples, S], Gate]
    read: Callable[[MutableMapping[str, Tensor], Mapping[str, Any], str], Gate]
    fit_moments: Callable[[Sequence[Block], S], Gate] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.settings, type) or not is_dataclass(self.settings):
            raise InputError("the settings of a gate are a frozen dataclass of its own")
        if "kind" in {field.name for field in fields(self.settings)}:
            raise InputError("a gate's setting cannot be named 'kind'; that is the gate's name")


GATES: Plugins[GateKind[Any]] = Plugins(
    "gate",
    "expertbank.gates",
    own={
        "lda": "expertbank.routing.gates.lda:LDA",
        "ridge": "expertbank.routing.gates.ridge:RIDGE",
        "noisy-top1": "expertbank.routing.gates.noisy_top1:NOISY_TOP1",
        "mlp": "expertbank.routing.gates.mlp:MLP",
    },
    complaint=lambda name, plugin: unlike(plugin, GateKind),
)
"""All kinds of gate by name."""


def fitted_from_moments() -> tuple[str, ...]:
    """Names of the kinds that need nothing but moments."""
    return tuple(name for name, kind in GATES.usable() if kind.fit_moments is not None)


def __getattr__(name: str) -> Any:
    if name in ("Block", "Examples", "Rows"):
        return getattr(import_module("expertbank.routing.examples"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
