"""One expert's TT-LoRA adapter: trainable cores, grouped so that equal shapes collapse at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from expertbank.adapters.targets import Target
from expertbank.errors import IntegrityError
from expertbank.tt import TTShape, collapse, initial_cores

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""Projection path to ``(A [in, r], B [r, out])``; alpha is already in ``B``."""


@dataclass(frozen=True, slots=True)
class CoreGroup:
    """Projections that share one tensor-train shape; their cores are stacked in path order."""

    shape: TTShape
    paths: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "in_factors": list(self.shape.in_factors),
            "out_factors": list(self.shape.out_factors),
            "ranks": list(self.shape.ranks),
            "paths": list(self.paths),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> CoreGroup:
        """Inverse of ``to_dict``."""
        shape = TTShape(
            tuple(value["in_factors"]), tuple(value["out_factors"]), tuple(value["ranks"])
        )
        return cls(shape, tuple(value["paths"]))


def group_targets(targets: Sequence[Target], tt_rank: int) -> tuple[CoreGroup, ...]:
    """Group adapted projections by tensor-train shape, in order of first appearance."""
    paths: dict[TTShape, list[str]] = {}
    for target in targets:
        shape = TTShape.of(target.in_features, target.out_features, tt_rank)
        paths.setdefault(shape, []).append(target.path)
    return tuple(CoreGroup(shape, tuple(members)) for shape, members in paths.items())


class TTAdapter(nn.Module):
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
        self._cores = [[nn.Parameter(core) for core in group] for group in cores]
        for name, core in self._named_cores():
            self.register_parameter(name.replace(".", "_"), core)

    @classmethod
    def fresh(
        cls, groups: Sequence[CoreGroup], alpha: float, generator: torch.Generator
    ) -> TTAdapter:
        """An adapter whose update is exactly zero."""
        cores = [initial_cores(group.shape, len(group.paths), generator) for group in groups]
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
                expected = (len(group.paths), *shape)
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

    def _named_cores(self) -> Iterator[tuple[str, nn.Parameter]]:
        for index, group in enumerate(self._cores):
            for position, core in enumerate(group):
                yield f"cores.{index}.{position}", core

    @property
    def parameter_count(self) -> int:
        """Numbers in all cores."""
        return sum(core.numel() for core in self.parameters())

    def collapse(self) -> dict[str, tuple[Tensor, Tensor]]:
        """``A`` and ``alpha·B`` of every projection, one batched contraction per group."""
        factors: dict[str, tuple[Tensor, Tensor]] = {}
        for group, cores in zip(self.groups, self._cores, strict=True):
            a, b = collapse(cores, group.shape)
            b = b * self.alpha
            # Unbound at once: the gradient is then stacked once, not padded for every projection.
            factors.update(
                (path, (left, right))
                for path, left, right in zip(group.paths, a.unbind(0), b.unbind(0), strict=True)
            )
        return factors
