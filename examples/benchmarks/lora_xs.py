"""LoRA-XS as a kind of adapter from outside: tried by ``recipe.py``, and not part of the product.

``ΔW = U Σ R Vᵀ``, the frame from the singular vectors of the frozen weight, only ``R [r, r]``
trained. Source: Bałazy et al., arXiv 2405.17604. The frame is stored with the expert, so that its
update does not hang on how another machine decomposes the weight; that makes a file of LoRA's size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from expertbank.adapters import ADAPTERS, Adapter, AdapterKind, Start
from expertbank.adapters.slots import (
    Sized,
    check_slots,
    joined,
    slots_from_dict,
    slots_to_dict,
)
from expertbank.errors import IntegrityError


class LoraXsAdapter(Adapter):
    """Square matrices between fixed frames."""

    def __init__(self, sized: Sequence[Sized], alpha: float, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.sized, self.alpha = tuple(sized), alpha
        self.cores = nn.Parameter(tensors["cores"])
        for place in range(len(self.sized)):
            for side in "ab":
                self.register_buffer(f"{side}{place}", tensors[f"{side}{place}"])

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.slot.path for one in self.sized))

    def collapse(self) -> dict[str, tuple[Tensor, Tensor]]:
        return joined(
            (
                one.slot,
                self.get_buffer(f"a{place}") @ self.cores[place],
                self.get_buffer(f"b{place}") * self.alpha,
            )
            for place, one in enumerate(self.sized)
        )

    def to_tensors(self) -> dict[str, Tensor]:
        found = {"cores": self.cores, **dict(self.named_buffers())}
        return {name: one.detach().cpu().clone() for name, one in found.items()}

    def facts(self) -> dict[str, Any]:
        sizes = [[one.in_features, one.out_features] for one in self.sized]
        return {"sizes": sizes, **slots_to_dict([one.slot for one in self.sized])}


class LoraXsKind(AdapterKind):
    """The frame's signs are pinned: the largest entry of each left vector is positive."""

    name = "lora-xs"
    default_rank = 32

    def fresh(self, start: Start) -> LoraXsAdapter:
        sized, rank = [Sized.of(target) for target in start.targets], self.rank_of(start.config)
        rank = min(rank, *(min(one.in_features, one.out_features) for one in sized))
        tensors = {"cores": torch.zeros(len(sized), rank, rank)}
        for place, target in enumerate(start.targets):
            u, s, vh = torch.linalg.svd(start.weight_of(target).double(), full_matrices=False)
            largest = u.gather(0, u.abs().argmax(0, keepdim=True))[0]
            signs = torch.sign(largest)[:rank]
            tensors[f"a{place}"] = (u[:, :rank] * s[:rank] * signs).float()
            tensors[f"b{place}"] = (vh[:rank] * signs[:, None]).float()
        return LoraXsAdapter(sized, start.alpha, tensors)

    def read(
        self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], alpha: float
    ) -> LoraXsAdapter:
        slots, sizes = slots_from_dict(facts), facts["sizes"]
        sized = [Sized(slot, *size) for slot, size in zip(slots, sizes, strict=True)]
        check_slots(sized)
        rank = tensors["cores"].shape[-1]
        expected = {"cores": (len(sized), rank, rank)}
        for place, one in enumerate(sized):
            expected[f"a{place}"] = (one.in_features, rank)
            expected[f"b{place}"] = (rank, one.out_features)
        if not sized or {name: tuple(one.shape) for name, one in tensors.items()} != expected:
            raise IntegrityError(f"tensors {sorted(tensors)} are not those of {len(sized)} modules")
        return LoraXsAdapter(sized, alpha, tensors)


LORA_XS = ADAPTERS.register("lora-xs", LoraXsKind())
