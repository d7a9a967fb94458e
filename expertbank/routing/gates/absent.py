"""A stored gate read back, and what stands for it where its kind is not installed."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from expertbank.errors import InputError, NotFoundError
from expertbank.routing.gates import GATES, Gate


@dataclass(frozen=True, slots=True)
class AbsentGate:
    """A gate of a kind that is not installed here: kept as it is stored, it cannot score.

    Attributes:
        why: what is missing, and what to install.
        stored: its tensors.
        said: its facts.
    """

    why: str
    stored: Mapping[str, Tensor]
    said: Mapping[str, Any]

    @property
    def dimension(self) -> int:
        """Unknown; raises ``NotFoundError``."""
        raise NotFoundError(self.why)

    @property
    def columns(self) -> int:
        """Unknown; raises ``NotFoundError``."""
        raise NotFoundError(self.why)

    @property
    def parameter_count(self) -> int:
        """Numbers that are stored."""
        return sum(tensor.numel() for tensor in self.stored.values())

    def scores(self, features: Tensor) -> Tensor:
        """Raises ``NotFoundError``."""
        raise NotFoundError(self.why)

    def only(self, columns: Sequence[int]) -> Gate:
        """Raises ``NotFoundError``."""
        raise NotFoundError(self.why)

    def tensors(self) -> dict[str, Tensor]:
        """As they were stored."""
        return dict(self.stored)

    def facts(self) -> dict[str, Any]:
        """As they were stored."""
        return dict(self.said)


def read_gate(
    kind: str, tensors: MutableMapping[str, Tensor], facts: Mapping[str, Any], where: str
) -> Gate:
    """The gate, its tensors taken out; one that cannot score if its kind cannot be had."""
    try:
        found = GATES.get(kind)
    except (NotFoundError, InputError) as error:
        own = [name for name in tensors if not name.startswith("unknown.")]
        stored = {name: tensors.pop(name) for name in own}
        return AbsentGate(f"{where} cannot choose without its gate: {error}", stored, facts)
    return found.read(tensors, facts, where)
