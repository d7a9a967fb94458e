"""What a kind of adapter is: numbers that are trained, and collapse to ``A·B`` of every module.

Everything after training sees only the collapsed pairs: the pool that serves a batch of different
kinds and ranks in one pass, and the export to PEFT. So a kind is free in what it trains and stores,
as long as that decides the pairs by itself, without the backbone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from expertbank.adapters.targets import Target
from expertbank.config import AdapterConfig
from expertbank.errors import InputError
from expertbank.settings import of_pairs, pairs_of

DEFAULT_RATE = 5e-3
"""Peak learning rate of kinds that have no other."""


class Adapter(nn.Module, ABC):
    """The trained numbers of one expert; its parameters are what the optimiser gets."""

    @property
    def parameter_count(self) -> int:
        """Numbers that are trained."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    @abstractmethod
    def paths(self) -> tuple[str, ...]:
        """Every adapted module once."""

    @abstractmethod
    def collapse(self) -> dict[str, tuple[Tensor, Tensor]]:
        """``A [in, r]`` and ``alpha·B [r, out]`` of every module; gradients run through it."""

    @abstractmethod
    def to_tensors(self) -> dict[str, Tensor]:
        """What is stored, by name: detached float32 copies on the CPU; no ``head.``."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What is stored that is not a tensor, as plain JSON."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a fresh adapter is made of.

    Attributes:
        targets: the projections, lowest layer first.
        config: the user's settings; ``rank`` may be left open.
        alpha: plain multiplier of every update.
        generator: the only source of randomness.
        weight_of: the backbone's frozen weight ``[in, out]`` of a target, in float32.
    """

    targets: Sequence[Target]
    config: AdapterConfig
    alpha: float
    generator: torch.Generator
    weight_of: Callable[[Target], Tensor]


@dataclass(frozen=True, slots=True)
class NoSettings:
    """Of kinds that have only those settings that all kinds share."""


class AdapterKind(ABC):
    """Everything that differs between kinds of adapter.

    Attributes:
        name: what users call it: ``--adapter lora``.
        default_rank: what ``rank`` is where nobody says.
        settings: what this kind alone can be told, with ``--adapter-set NAME=VALUE``: a frozen
            dataclass of ``expertbank.settings.setting`` fields that calls ``check`` when it is
            built. An expert's lineage has them all.
    """

    name: str
    default_rank: int = 8
    settings: type[Any] = NoSettings

    def settled(self, config: AdapterConfig) -> AdapterConfig:
        """Settings that decide an adapter but for alpha, as an expert's lineage has them.

        Raises:
            InputError: settings that this kind does not have.
        """
        if config.tt_rank is not None:
            raise InputError(f"the adapter {self.name} has no tensor train: --rank is its size")
        return replace(config, rank=self.rank_of(config), settings=pairs_of(self.own(config)))

    def own(self, config: AdapterConfig) -> Any:
        """The kind's own ``settings`` as they are wished for.

        Raises:
            InputError: one that it does not have, or a value that is not legal.
        """
        return self.settings(**of_pairs(self.settings, config.settings, f"the adapter {self.name}"))

    def rank_of(self, config: AdapterConfig) -> int:
        """The rank wished for, or the kind's own."""
        return self.default_rank if config.rank is None else config.rank

    def rate_of(self, config: AdapterConfig) -> float:
        """Peak learning rate where nobody says one."""
        return DEFAULT_RATE

    @abstractmethod
    def fresh(self, start: Start) -> Adapter:
        """An adapter to train. Its update is zero: the head's start is fitted to the bare model.

        Raises:
            InputError: settings that the targets cannot have.
        """

    @abstractmethod
    def read(
        self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], alpha: float
    ) -> Adapter:
        """The adapter that ``facts`` and ``to_tensors`` gave.

        They come from a file that anyone may have written: the tensors are finite float32, and
        nothing else is known of them. A file must not be able to ask for more memory than it has
        bytes, beyond the widths that ``check_slots`` allows.

        Raises:
            IntegrityError, InputError, KeyError, TypeError, ValueError: anything that is not
                exactly such an adapter, a tensor too many included.
        """
