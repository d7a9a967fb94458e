"""Where updates go: modules, and of fused ones the columns; and updates of one module as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor

from expertbank.adapters.targets import Target
from expertbank.backbones.slices import Slices, check_apart
from expertbank.errors import InputError

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

    @classmethod
    def of(cls, target: Target) -> Slot:
        """Where the update of ``target`` goes."""
        return cls(target.path, target.columns)


@dataclass(frozen=True, slots=True)
class Sized:
    """A slot and the features that its update ``[in_features, out_features]`` has."""

    slot: Slot
    in_features: int
    out_features: int

    @classmethod
    def of(cls, target: Target) -> Sized:
        """The slot of ``target`` with its features."""
        return cls(Slot.of(target), target.in_features, target.out_features)


def slots_to_dict(slots: Sequence[Slot]) -> dict[str, Any]:
    """Plain JSON form; ``columns`` only where a slot is part of a fused projection."""
    value: dict[str, Any] = {"paths": [slot.path for slot in slots]}
    if any(slot.columns for slot in slots):
        value["columns"] = [list(astuple(slot.columns)) if slot.columns else None for slot in slots]
    return value


def slots_from_dict(value: Mapping[str, Any]) -> tuple[Slot, ...]:
    """Inverse of ``slots_to_dict``.

    Raises:
        InputError: columns that cannot be.
        KeyError, TypeError, ValueError: not such a form at all.
    """
    paths = [str(path) for path in value["paths"]]
    columns = value.get("columns", [None] * len(paths))
    return tuple(
        Slot(path, None if one is None else Slices(*one))
        for path, one in zip(paths, columns, strict=True)
    )


def check_slots(sized: Iterable[Sized]) -> None:
    """Refuse slots that no model's projections could have given.

    What an expert stores is small whatever it collapses to, so a file of a few bytes could
    otherwise ask for any amount of memory.

    Raises:
        InputError: a slot that does not fit its update, a module adapted twice in the same
            columns or read as two widths, or one wider than ``MAX_FEATURES``.
    """
    by_path: dict[str, list[Sized]] = {}
    for one in sized:
        by_path.setdefault(one.slot.path, []).append(one)
    for path, found in by_path.items():
        for one in found:
            columns = one.slot.columns
            features = columns.features if columns else one.out_features
            width = columns.width if columns else features
            if features != one.out_features:
                raise InputError(f"{path}: an update of {one.out_features} for {features}")
            if max(one.in_features, width) > MAX_FEATURES:
                raise InputError(f"{path}: wider than {MAX_FEATURES} features")
        if len({one.in_features for one in found}) > 1:
            raise InputError(f"{path}: its updates read different widths")
        if len(found) > 1:
            apart = [one.slot.columns for one in found if one.slot.columns]
            if len(apart) < len(found):
                raise InputError(f"{path}: adapted twice")
            check_apart(apart)


def joined(parts: Iterable[tuple[Slot, Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    """One pair for every module, of the pairs of its slots.

    The roles of a fused module share one pair: their ranks stand side by side, and each one's
    ``B`` is zero outside its own columns.

    Args:
        parts: slots with ``A [in, r]`` and ``B [r, out]``.
    """
    by_path: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for slot, a, b in parts:
        own = b if slot.columns is None else slot.columns.place(b)
        by_path.setdefault(slot.path, []).append((a, own))
    return {path: _side_by_side(pairs) for path, pairs in by_path.items()}


def _side_by_side(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The sum of products ``A·B`` as one: ``A [in, Σr]`` and ``B [Σr, out]``."""
    if len(pairs) == 1:
        return pairs[0]
    return torch.cat([a for a, _ in pairs], dim=1), torch.cat([b for _, b in pairs], dim=0)
