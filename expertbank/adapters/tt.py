"""One expert's TT-LoRA adapter: trainable cores, grouped so that equal shapes collapse at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from expertbank.adapters.targets import Target
from expertbank.backbones.slices import Slices, check_apart
from expertbank.errors import InputError, IntegrityError
from expertbank.tt import TTShape, collapse, initial_cores

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""Projection path to ``(A [in, r], B [r, out])``; alpha is already in ``B``."""

MAX_FEATURES = 2**20
"""Widest projection an expert may adapt; the widest of today's backbones have a tenth of it."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one projection's update goes.

    Attributes:
        path: the module.
        columns: which of its output columns; ``None`` for all of them.
    """

    path: str
    columns: Slices | None = None


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
        value: dict[str, Any] = {
            "in_factors": list(self.shape.in_factors),
            "out_factors": list(self.shape.out_factors),
            "ranks": list(self.shape.ranks),
            "paths": list(self.paths),
        }
        if any(slot.columns for slot in self.slots):
            value["columns"] = [
                list(astuple(slot.columns)) if slot.columns else None for slot in self.slots
            ]
        return value

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
        paths = [str(path) for path in value["paths"]]
        columns = value.get("columns", [None] * len(paths))
        slots = tuple(
            Slot(path, None if one is None else Slices(*one))
            for path, one in zip(paths, columns, strict=True)
        )
        return cls(shape, slots)


def group_targets(targets: Sequence[Target], tt_rank: int) -> tuple[CoreGroup, ...]:
    """Group adapted projections by tensor-train shape, in order of first appearance."""
    slots: dict[TTShape, list[Slot]] = {}
    for target in targets:
        shape = TTShape.of(target.in_features, target.out_features, tt_rank)
        slots.setdefault(shape, []).append(Slot(target.path, target.columns))
    return tuple(CoreGroup(shape, tuple(members)) for shape, members in slots.items())


def check_groups(groups: Sequence[CoreGroup]) -> None:
    """Refuse groups that no model's projections could have given.

    Cores are small whatever they collapse to, so a file of a few bytes could otherwise ask for
    any amount of memory.

    Raises:
        InputError: a slot that does not fit its shape, a module adapted twice in the same
            columns or read as two widths, or one wider than ``MAX_FEATURES``.
    """
    by_path: dict[str, list[tuple[CoreGroup, Slot]]] = {}
    for group in groups:
        if not group.slots:
            raise InputError("a group of cores adapts nothing")
        for slot in group.slots:
            by_path.setdefault(slot.path, []).append((group, slot))
    for path, found in by_path.items():
        for group, slot in found:
            features = slot.columns.features if slot.columns else group.shape.out_features
            width = slot.columns.width if slot.columns else features
            if features != group.shape.out_features:
                raise InputError(f"{path}: cores of {group.shape.out_features} for {features}")
            if max(group.shape.in_features, width) > MAX_FEATURES:
                raise InputError(f"{path}: wider than {MAX_FEATURES} features")
        if len({group.shape.in_features for group, _ in found}) > 1:
            raise InputError(f"{path}: its cores read different widths")
        if len(found) > 1:
            columns = [slot.columns for _, slot in found if slot.columns]
            if len(columns) < len(found):
                raise InputError(f"{path}: adapted twice")
            check_apart(columns)


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

    def _named_cores(self) -> Iterator[tuple[str, nn.Parameter]]:
        for index, group in enumerate(self._cores):
            for position, core in enumerate(group):
                yield f"cores.{index}.{position}", core

    @property
    def parameter_count(self) -> int:
        """Numbers in all cores."""
        return sum(core.numel() for core in self.parameters())

    @property
    def paths(self) -> tuple[str, ...]:
        """Every adapted module once."""
        return tuple(dict.fromkeys(path for group in self.groups for path in group.paths))

    def collapse(self) -> dict[str, tuple[Tensor, Tensor]]:
        """``A`` and ``alpha·B`` of every module, one batched contraction per group.

        The roles of a fused module share one pair: their ranks stand side by side, and each
        one's ``B`` is zero outside its own columns.
        """
        parts: dict[str, list[tuple[Tensor, Tensor]]] = {path: [] for path in self.paths}
        for group, cores in zip(self.groups, self._cores, strict=True):
            a, b = collapse(cores, group.shape)
            b = b * self.alpha
            # Unbound at once: the gradient is then stacked once, not padded for every slot.
            for slot, left, right in zip(group.slots, a.unbind(0), b.unbind(0), strict=True):
                own = right if slot.columns is None else slot.columns.place(right)
                parts[slot.path].append((left, own))
        return {path: _side_by_side(pairs) for path, pairs in parts.items()}


def _side_by_side(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The sum of products ``A·B`` as one: ``A [in, Σr]`` and ``B [Σr, out]``."""
    if len(pairs) == 1:
        return pairs[0]
    return torch.cat([a for a, _ in pairs], dim=1), torch.cat([b for _, b in pairs], dim=0)
