"""Other shapes of a train than the default's, as kinds of adapter from outside: for ``recipe.py``.

- ``tt-cut-K``: the factors of a projection are ``d/K, K | K, d/K``, where the default's are as
  balanced as they can be. With ``K = 1`` it is LoRA.
- ``tt-across`` and ``tt-across-K``: one train across all projections of the branch that have the
  same dimensions, with a core that chooses the projection: ``ΔW_s = U C_s V``, ``U [in, R]`` and
  ``V [R, out]`` shared (MetaTT, arXiv 2506.09105); ``rank`` is ``R``. With ``K``, ``U`` and ``V``
  are trains of factors ``d/K, K`` themselves, with bonds of ``R / 2``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from expertbank.adapters import ADAPTERS, Adapter, AdapterKind, Start
from expertbank.adapters.slots import Sized, Slot, joined
from expertbank.adapters.tt import TTAdapter, TTKind, group_targets
from expertbank.plain import Numbers
from expertbank.tt import TTShape, initial_cores
from expertbank.tt.shape import DEFAULT_RANK


class Cut(TTKind):
    """Trains with given middle factors."""

    def __init__(self, inner: int) -> None:
        self.inner, self.name = inner, f"tt-cut-{inner}"

    def fresh(self, start: Start) -> TTAdapter:
        def cut(inputs: int, outputs: int, rank: Numbers) -> TTShape:
            factors = (inputs // self.inner, self.inner), (self.inner, outputs // self.inner)
            return TTShape.of(inputs, outputs, rank, factors=factors)

        groups = group_targets(start.targets, start.config.tt_rank or DEFAULT_RANK, cut)
        return TTAdapter.fresh(groups, start.alpha, start.generator)


class AcrossAdapter(Adapter):
    """One train for all projections of the same dimensions.

    Args:
        sized: the projections; those of one size share ``U`` and ``V``.
        alpha: plain multiplier of every update.
        tensors: ``u.K.P`` and ``v.K.P``, the cores of the ``K``-th size, and ``c.K``, its
            ``[projections, R, R]``.
    """

    def __init__(self, sized: Sequence[Sized], alpha: float, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.sized, self.alpha = tuple(sized), alpha
        self.cores = nn.ParameterDict({name.replace(".", "_"): t for name, t in tensors.items()})

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.slot.path for one in self.sized))

    def collapse(self) -> dict[str, tuple[Tensor, Tensor]]:
        parts: list[tuple[Slot, Tensor, Tensor]] = []
        for index, slots in enumerate(by_size(self.sized).values()):
            u, v = self.side("u", index), self.side("v", index)
            # [in, R] of [m1, r], [r, m2, R]; [R, out] of [R, n1, r], [r, n2]
            a = u[0] if len(u) == 1 else torch.einsum("ir,rjk->ijk", *u).flatten(0, 1)
            b = v[0] if len(v) == 1 else torch.einsum("kjr,ri->kji", *v).flatten(1)
            for slot, core in zip(slots, self.cores[f"c_{index}"], strict=True):
                parts.append((slot, a, core @ b * self.alpha))
        return joined(parts)

    def side(self, name: str, index: int) -> list[Tensor]:
        found = (f"{name}_{index}_{place}" for place in (0, 1))
        return [self.cores[one] for one in found if one in self.cores]

    def to_tensors(self) -> dict[str, Tensor]:
        named = self.cores.items()
        return {name.replace("_", "."): one.detach().cpu().clone() for name, one in named}

    def facts(self) -> dict[str, Any]:
        return {"sized": [[one.slot.path, one.in_features, one.out_features] for one in self.sized]}


class AcrossKind(AdapterKind):
    """``U`` and the projections' cores as they are drawn, ``V`` ends in zeros."""

    default_rank = 8

    def __init__(self, inner: int | None = None, alike: bool = False) -> None:
        self.inner, self.alike = inner, alike
        self.name = "tt-across" + (f"-{inner}" if inner else "") + ("-alike" if alike else "")

    def fresh(self, start: Start) -> AcrossAdapter:
        rank, tensors = self.rank_of(start.config), {}
        sized = [Sized.of(target) for target in start.targets]
        for index, ((inputs, outputs), slots) in enumerate(by_size(sized).items()):
            if self.inner is None:
                shape = TTShape((inputs,), (outputs,), (1, rank, 1))
            else:
                factors = (inputs // self.inner, self.inner), (self.inner, outputs // self.inner)
                bonds = (rank // 2, rank, rank // 2)
                shape = TTShape.of(inputs, outputs, bonds, factors=factors)
            cores = [core[0] for core in initial_cores(shape, 1, start.generator)]
            cores[0], cores[-1] = cores[0][0], cores[-1][..., 0]
            half = len(cores) // 2
            tensors |= {f"u.{index}.{place}": core for place, core in enumerate(cores[:half])}
            tensors |= {f"v.{index}.{place}": core for place, core in enumerate(cores[half:])}
            if self.alike:
                core = torch.eye(rank).repeat(len(slots), 1, 1)
            else:
                drawn = torch.randn(len(slots), rank, rank, generator=start.generator)
                core = torch.linalg.qr(drawn)[0]
            tensors[f"c.{index}"] = core
        return AcrossAdapter(sized, start.alpha, tensors)

    def read(
        self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], alpha: float
    ) -> AcrossAdapter:
        sized = [Sized(Slot(path), *size) for path, *size in facts["sized"]]
        return AcrossAdapter(sized, alpha, tensors)


def by_size(sized: Sequence[Sized]) -> dict[tuple[int, int], list[Slot]]:
    """Slots by the dimensions of their updates, in order of first appearance."""
    found: dict[tuple[int, int], list[Slot]] = {}
    for one in sized:
        found.setdefault((one.in_features, one.out_features), []).append(one.slot)
    return found


for kind in (Cut(2), Cut(4), Cut(8), AcrossKind(), AcrossKind(alike=True), AcrossKind(16)):
    ADAPTERS.register(kind.name, kind)
