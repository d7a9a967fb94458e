"""A kind of adapter: LoRA in which all projections of one width share their ``A``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from expertbank.adapters import Adapter, AdapterKind, Start
from expertbank.adapters.slots import (
    Sized,
    check_slots,
    joined,
    slots_from_dict,
    slots_to_dict,
)
from expertbank.errors import IntegrityError


class ShareLoraAdapter(Adapter):
    """``A`` by width, and every projection's own ``B``."""

    def __init__(self, sized: Sequence[Sized], alpha: float, numbers: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.sized, self.alpha = tuple(sized), alpha
        self.numbers = nn.ParameterDict({n: nn.Parameter(t) for n, t in numbers.items()})

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.slot.path for one in self.sized))

    def collapse(self) -> dict[str, tuple[Tensor, Tensor]]:
        return joined(
            (one.slot, self.numbers[f"a{one.in_features}"], self.numbers[f"b{place}"] * self.alpha)
            for place, one in enumerate(self.sized)
        )

    def to_tensors(self) -> dict[str, Tensor]:
        return {name: one.detach().cpu().clone() for name, one in self.numbers.items()}

    def facts(self) -> dict[str, Any]:
        sizes = [[one.in_features, one.out_features] for one in self.sized]
        return {"sizes": sizes, **slots_to_dict([one.slot for one in self.sized])}


class ShareLora(AdapterKind):
    """Source: Song et al., "ShareLoRA", arXiv 2406.10785."""

    name = "share-lora"
    default_rank = 4

    def fresh(self, start: Start) -> ShareLoraAdapter:
        sized, rank = [Sized.of(target) for target in start.targets], self.rank_of(start.config)
        numbers = {f"b{place}": torch.zeros(rank, one.out_features) for place, one in _each(sized)}
        for width in dict.fromkeys(one.in_features for one in sized):
            drawn = torch.randn(width, rank, generator=start.generator)
            numbers[f"a{width}"] = drawn / width**0.5
        return ShareLoraAdapter(sized, start.alpha, numbers)

    def read(
        self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], alpha: float
    ) -> ShareLoraAdapter:
        slots, sizes = slots_from_dict(facts), facts["sizes"]
        sized = [Sized(slot, *size) for slot, size in zip(slots, sizes, strict=True)]
        check_slots(sized)
        rank = tensors["b0"].shape[0]
        expected = {f"b{place}": (rank, one.out_features) for place, one in _each(sized)}
        expected |= {f"a{one.in_features}": (one.in_features, rank) for one in sized}
        if {name: tuple(one.shape) for name, one in tensors.items()} != expected:
            raise IntegrityError(f"tensors {sorted(tensors)} are not those of {len(sized)} modules")
        return ShareLoraAdapter(sized, alpha, tensors)


def _each(sized: Sequence[Sized]) -> list[tuple[int, Sized]]:
    return list(enumerate(sized))


SHARE_LORA = ShareLora()
