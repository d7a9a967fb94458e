"""TT-LoRA: the cores of one expert, grouped so that equal shapes collapse at once.

Source: TT-LoRA MoE, arXiv 2504.21190, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from expertbank.adapters.adapter import Adapter, AdapterKind, Start
from expertbank.adapters.slots import (
    Factors,
    Sized,
    Slot,
    check_slots,
    joined,
    slots_from_dict,
    slots_to_dict,
)
from expertbank.adapters.targets import Target
from expertbank.config import AdapterConfig
from expertbank.errors import InputError, IntegrityError
from expertbank.plain import Numbers
from expertbank.settings import pairs_of
from expertbank.tt import TTShape, collapse, initial_cores

__all__ = ["TT", "CoreGroup", "Factors", "TTAdapter", "TTKind", "group_targets"]


@dataclass(frozen=True, slots=True)
class CoreGroup:
    """Projections that share one tensor-train shape; their cores are stacked in slot order."""

    shape: TTShape
    slots: tuple[Slot, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Modules of the slots; a fused one stands once for each role of this shape."""
        return tuple(slot.path for slot in self.slots)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form; ``columns`` only where a slot is part of a fused projection."""
        return {
            "in_factors": list(self.shape.in_factors),
            "out_factors": list(self.shape.out_factors),
            "ranks": list(self.shape.ranks),
            **slots_to_dict(self.slots),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> CoreGroup:
        """Inverse of ``to_dict``.

        Raises:
            InputError: factors, ranks or columns that cannot be.
            KeyError, TypeError, ValueError: not such a form at all.
        """
        shape = TTShape(
            tuple(value["in_factors"]), tuple(value["out_factors"]), tuple(value["ranks"])
        )
        return cls(shape, slots_from_dict(value))


def group_targets(
    targets: Sequence[Target],
    rank: Numbers | None,
    shape_of: Callable[[int, int, Numbers], TTShape] = TTShape.of,
) -> tuple[CoreGroup, ...]:
    """Group adapted projections by tensor-train shape, in order of first appearance.

    Without a rank every projection's width decides its shape.
    """
    slots: dict[TTShape, list[Slot]] = {}
    for target in targets:
        size = target.in_features, target.out_features
        shape = TTShape.by_width(*size) if rank is None else shape_of(*size, rank)
        slots.setdefault(shape, []).append(Slot.of(target))
    return tuple(CoreGroup(shape, tuple(members)) for shape, members in slots.items())


class TTAdapter(Adapter):
    """The cores of one expert.

    Args:
        groups: which projections, in which shapes.
        alpha: plain multiplier of every update.
        cores: per group one tensor ``[count, r_{k-1}, d_k, r_k]`` per core.
    """

    def __init__(
        self, groups: Sequence[CoreGroup], alpha: float, cores: Sequence[Sequence[Tensor]]
    ) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.alpha = alpha
        for index, group in enumerate(cores):
            for position, core in enumerate(group):
                self.register_parameter(_attribute(index, position), nn.Parameter(core))

    @classmethod
    def fresh(
        cls, groups: Sequence[CoreGroup], alpha: float, generator: torch.Generator
    ) -> TTAdapter:
        """An adapter whose update is exactly zero."""
        cores = [initial_cores(group.shape, len(group.slots), generator) for group in groups]
        return cls(groups, alpha, cores)

    @classmethod
    def from_tensors(
        cls, groups: Sequence[CoreGroup], alpha: float, tensors: Mapping[str, Tensor]
    ) -> TTAdapter:
        """Rebuild an adapter from ``tensors`` as ``to_tensors`` wrote them.

        Raises:
            IntegrityError: a core is missing or has another shape than its group says.
        """
        cores: list[list[Tensor]] = []
        for index, group in enumerate(groups):
            members = []
            for position, shape in enumerate(group.shape.core_shapes):
                name = f"cores.{index}.{position}"
                expected = (len(group.slots), *shape)
                core = tensors.get(name)
                if core is None or tuple(core.shape) != expected:
                    found = "nothing" if core is None else list(core.shape)
                    raise IntegrityError(
                        f"tensor {name} should have shape {list(expected)}, found {found}"
                    )
                members.append(core)
            cores.append(members)
        return cls(groups, alpha, cores)

    def to_tensors(self) -> dict[str, Tensor]:
        """All cores by name, detached copies on the CPU."""
        return {name: core.detach().cpu().clone() for name, core in self._named_cores()}

    @property
    def _cores(self) -> list[list[nn.Parameter]]:
        # By name each time: a move to another device may put other parameters in their place.
        return [
            [getattr(self, _attribute(index, place)) for place in range(len(group.shape.factors))]
            for index, group in enumerate(self.groups)
        ]

    def _named_cores(self) -> Iterator[tuple[str, nn.Parameter]]:
        for index, group in enumerate(self._cores):
            for position, core in enumerate(group):
                yield f"cores.{index}.{position}", core

    @property
    def paths(self) -> tuple[str, ...]:
        """Every adapted module once."""
        return tuple(dict.fromkeys(path for group in self.groups for path in group.paths))

    def collapse(self) -> dict[str, tuple[Tensor, Tensor]]:
        """``A`` and ``alpha·B`` of every module, one batched contraction per group."""
        parts: list[tuple[Slot, Tensor, Tensor]] = []
        for group, cores in zip(self.groups, self._cores, strict=True):
            a, b = collapse(cores, group.shape)
            b = b * self.alpha
            # Unbound at once: the gradient is then stacked once, not padded for every slot.
            parts += zip(group.slots, a.unbind(0), b.unbind(0), strict=True)
        return joined(parts)

    def facts(self) -> dict[str, Any]:
        """The groups."""
        return {"groups": [group.to_dict() for group in self.groups]}


def _attribute(group: int, position: int) -> str:
    return f"cores_{group}_{position}"


class TTKind(AdapterKind):
    """Tensor trains; a rank for all bonds, or one for each, or what suits each width."""

    name = "tt"

    def settled(self, config: AdapterConfig) -> AdapterConfig:
        """The same settings: without a rank every projection's width decides."""
        if config.rank is not None:
            raise InputError("the size of a tensor train is --tt-rank; --rank is for other kinds")
        return replace(config, settings=pairs_of(self.own(config)))

    def fresh(self, start: Start) -> TTAdapter:
        """Cores of which the last is zero."""
        groups = group_targets(start.targets, self.settled(start.config).tt_rank)
        return TTAdapter.fresh(groups, start.alpha, start.generator)

    def read(
        self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], alpha: float
    ) -> TTAdapter:
        """Cores of the groups that the file names."""
        groups = tuple(CoreGroup.from_dict(group) for group in facts["groups"])
        if not all(group.slots for group in groups):
            raise InputError("a group of cores adapts nothing")
        check_slots(
            Sized(slot, group.shape.in_features, group.shape.out_features)
            for group in groups
            for slot in group.slots
        )
        expected = {
            f"cores.{i}.{k}" for i, g in enumerate(groups) for k in range(len(g.shape.factors))
        }
        if set(tensors) != expected:
            odd = sorted(set(tensors) ^ expected)
            raise IntegrityError(f"missing or unexpected tensors {odd[:5]}")
        return TTAdapter.from_tensors(groups, alpha, tensors)


TT = TTKind()
