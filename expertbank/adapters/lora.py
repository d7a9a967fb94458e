"""LoRA of any rank: a tensor train of two cores, which are ``A`` and ``B`` themselves.

Source: Hu et al., "LoRA", arXiv 2106.09685. The update is ``alpha·A·B``: alpha is not divided by
the rank, as everywhere here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from expertbank.adapters.adapter import DEFAULT_RATE, AdapterKind, Start
from expertbank.adapters.slots import Factors, Slot
from expertbank.adapters.tt import TT, CoreGroup, TTAdapter, group_targets
from expertbank.config import AdapterConfig
from expertbank.errors import InputError
from expertbank.tt import TTShape


class LoraKind(AdapterKind):
    """One core a side: ``A [in, r]`` Gaussian with columns of norm 1, ``B [r, out]`` zero."""

    name = "lora"

    def rate_of(self, config: AdapterConfig) -> float:
        """Lower, the higher the rank: of rank 4, 5e-3 lost 3 points where 2e-3 gained.

        Ranks 1, 4, 8 and 16 by ``examples/benchmarks/recipe.py``, on training rows.
        """
        rank = self.rank_of(config)
        return DEFAULT_RATE if rank == 1 else 2e-3 if rank <= 4 else 1e-3

    def fresh(self, start: Start) -> TTAdapter:
        """``A`` as a tensor train's first core has it, ``B`` zero."""
        groups = group_targets(start.targets, self.rank_of(start.config), TTShape.uncut)
        return TTAdapter.fresh(groups, start.alpha, start.generator)

    def of_factors(self, factors: Factors) -> TTAdapter:
        """The adapter whose ``collapse`` gives these factors; its alpha is 1.

        Ranks may differ. One above the smaller side of its module, which no product needs, comes
        down to that side.
        """
        members: dict[TTShape, list[tuple[Slot, Tensor, Tensor]]] = {}
        for path, pair in factors.items():
            a, b = _attainable(*pair)
            shape = TTShape((len(a),), (b.shape[1],), (1, a.shape[1], 1))
            members.setdefault(shape, []).append((Slot(path), a, b))
        groups = [CoreGroup(shape, tuple(s for s, _, _ in own)) for shape, own in members.items()]
        cores = [
            # [count, 1, in, r] and [count, r, out, 1]
            [
                torch.stack([a for _, a, _ in own])[:, None],
                torch.stack([b for *_, b in own])[..., None],
            ]
            for own in members.values()
        ]
        return TTAdapter(groups, 1.0, cores)

    def read(
        self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], alpha: float
    ) -> TTAdapter:
        """Trains of two cores."""
        found = TT.read(facts, tensors, alpha)
        if any(len(group.shape.factors) != 2 for group in found.groups):
            raise InputError("a LoRA has two factors, and these are trains of more")
        return found


def _attainable(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The same product with no more rank than its smaller side has features."""
    (inputs, rank), outputs = a.shape, b.shape[1]
    if rank <= min(inputs, outputs):
        return a, b
    product = a @ b
    return (torch.eye(inputs), product) if inputs <= outputs else (product, torch.eye(outputs))


LORA = LoraKind()
