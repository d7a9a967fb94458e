"""LoRA of any rank: a tensor train of two cores, which are ``A`` and ``B`` themselves.

Source: Hu et al., "LoRA", arXiv 2106.09685. The update is ``alpha·A·B``: alpha is not divided by
the rank, as everywhere here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from expertbank.adapters.adapter import AdapterKind, Start
from expertbank.adapters.tt import TT, TTAdapter, group_targets
from expertbank.errors import InputError
from expertbank.plain import Numbers
from expertbank.tt import TTShape


class LoraKind(AdapterKind):
    """One core a side: ``A [in, r]`` Gaussian with columns of norm 1, ``B [r, out]`` zero."""

    name = "lora"

    def fresh(self, start: Start) -> TTAdapter:
        """``A`` as a tensor train's first core has it, ``B`` zero."""
        groups = group_targets(start.targets, self.rank_of(start.config), _two_cores)
        return TTAdapter.fresh(groups, start.alpha, start.generator)

    def read(
        self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], alpha: float
    ) -> TTAdapter:
        """Trains of two cores."""
        found = TT.read(facts, tensors, alpha)
        if any(len(group.shape.factors) != 2 for group in found.groups):
            raise InputError("a LoRA has two factors, and these are trains of more")
        return found


def _two_cores(in_features: int, out_features: int, rank: Numbers) -> TTShape:
    factors = (in_features,), (out_features,)
    return TTShape.of(in_features, out_features, rank, factors=factors)


LORA = LoraKind()
