"""No adapter: what an expert has that is answered elsewhere, with nothing to train or to apply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from torch import Tensor

from expertbank.adapters.adapter import Adapter, AdapterKind, Start
from expertbank.config import NO_ADAPTER, AdapterConfig
from expertbank.errors import InputError, IntegrityError


class NoAdapter(Adapter):
    """No numbers."""

    @property
    def paths(self) -> tuple[str, ...]:
        """No module."""
        return ()

    def collapse(self) -> dict[str, tuple[Tensor, Tensor]]:
        """No pair."""
        return {}

    def to_tensors(self) -> dict[str, Tensor]:
        """No tensor."""
        return {}

    def facts(self) -> dict[str, Any]:
        """No fact."""
        return {}


class NoAdapterKind(AdapterKind):
    """Of experts that are not trained; it cannot be asked for."""

    name = NO_ADAPTER

    def settled(self, config: AdapterConfig) -> NoReturn:
        """There is nothing to settle.

        Raises:
            InputError: always.
        """
        raise InputError(
            "the adapter none has nothing to train: it is that of tasks that an adapter elsewhere "
            "answers (--external NAME); name another"
        )

    def fresh(self, start: Start) -> NoReturn:
        """As ``settled``."""
        self.settled(start.config)

    def read(
        self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], alpha: float
    ) -> NoAdapter:
        """Nothing, if there is nothing.

        Raises:
            IntegrityError: there is something.
        """
        if facts or tensors:
            raise IntegrityError(f"no adapter, and yet {sorted([*facts, *tensors])[:5]}")
        return NoAdapter()


NONE = NoAdapterKind()
