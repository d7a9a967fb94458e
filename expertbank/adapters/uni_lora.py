"""Uni-LoRA: all entries of a LoRA are taken from one short vector, in an order that is pinned.

Every number of every ``A`` and ``B`` is one entry of ``theta [d]``, divided by the root of how many
numbers share that entry, so that the map from ``theta`` to all of them keeps lengths. Which entry
it is follows from its place by arithmetic alone, the same on every machine and in every version.
Source: Li et al., "Uni-LoRA: One Vector is All You Need", arXiv 2506.00799.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from expertbank.adapters.adapter import Adapter, AdapterKind, Start
from expertbank.adapters.slots import (
    Sized,
    Slot,
    check_slots,
    joined,
    slots_from_dict,
    slots_to_dict,
)
from expertbank.errors import InputError, IntegrityError
from expertbank.settings import check, setting

SHARED = 3
"""Numbers of the LoRA to one that is trained, where a file or a user says nothing else."""
BOUND = 0.02
"""A fresh vector is uniform within this, as in the source's code."""
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def places(count: int, entries: int) -> Tensor:
    """For each of ``count`` numbers which of ``entries`` it is: ``[count]`` int64.

    SplitMix64 of the number's place (Steele, Lea & Flood, OOPSLA 2014), modulo ``entries``.
    """
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_FIRST)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_SECOND)
    mixed ^= mixed >> np.uint64(31)
    return torch.from_numpy((mixed % np.uint64(entries)).astype(np.int64))


@dataclass(frozen=True, slots=True)
class UniLoraSettings:
    """What Uni-LoRA alone can be told."""

    share: int = setting(SHARED, "Numbers of the LoRA to one that is trained.", least=1, most=1000)

    def __post_init__(self) -> None:
        check(self)


class UniLoraAdapter(Adapter):
    """The vector of one expert.

    Args:
        sized: which projections, lowest layer first.
        rank: rank of the LoRA.
        alpha: plain multiplier of every update.
        theta: ``[d]``.
        share: numbers of the LoRA to one of ``theta``.
    """

    def __init__(
        self,
        sized: Sequence[Sized],
        rank: int,
        alpha: float,
        theta: Tensor,
        share: int = SHARED,
    ) -> None:
        super().__init__()
        self.sized, self.rank, self.alpha, self.share = tuple(sized), rank, alpha, share
        self.theta = nn.Parameter(theta)
        index = places(_numbers(sized, rank), len(theta))
        shared = torch.bincount(index, minlength=len(theta)).clamp(min=1)
        self._places: Tensor
        self._scale: Tensor
        self.register_buffer("_places", index, persistent=False)
        self.register_buffer("_scale", shared.to(theta.dtype).rsqrt()[index], persistent=False)

    @property
    def paths(self) -> tuple[str, ...]:
        """Every adapted module once."""
        return tuple(dict.fromkeys(one.slot.path for one in self.sized))

    def collapse(self) -> dict[str, tuple[Tensor, Tensor]]:
        """``A`` and ``alpha·B`` of every module, cut from one long vector."""
        # [numbers of all A and B]
        numbers = self.theta[self._places] * self._scale
        parts: list[tuple[Slot, Tensor, Tensor]] = []
        start = 0
        for one in self.sized:
            middle = start + one.in_features * self.rank
            end = middle + self.rank * one.out_features
            a = numbers[start:middle].view(one.in_features, self.rank)
            b = numbers[middle:end].view(self.rank, one.out_features) * self.alpha
            parts.append((one.slot, a, b))
            start = end
        return joined(parts)

    def to_tensors(self) -> dict[str, Tensor]:
        """The vector."""
        return {"theta": self.theta.detach().cpu().clone()}

    def facts(self) -> dict[str, Any]:
        """The rank, which projections, and the share where it is another than usual."""
        return {
            **({} if self.share == SHARED else {"share": self.share}),
            "rank": self.rank,
            "sizes": [[one.in_features, one.out_features] for one in self.sized],
            **slots_to_dict([one.slot for one in self.sized]),
        }


class UniLoraKind(AdapterKind):
    """A third as many numbers as LoRA of the same rank, or another share of them."""

    name = "uni-lora"
    default_rank = 4
    settings = UniLoraSettings

    def fresh(self, start: Start) -> UniLoraAdapter:
        """A vector so short that the update is some thousandths of the weights."""
        sized, rank = [Sized.of(target) for target in start.targets], self.rank_of(start.config)
        share = self.own(start.config).share
        entries = -(-_numbers(sized, rank) // share)
        theta = (2 * torch.rand(entries, generator=start.generator) - 1) * BOUND
        return UniLoraAdapter(sized, rank, start.alpha, theta, share)

    def read(
        self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], alpha: float
    ) -> UniLoraAdapter:
        """The vector, if it is as long as these projections ask for."""
        rank, sizes = facts["rank"], facts["sizes"]
        if type(rank) is not int or rank < 1:
            raise InputError(f"a rank is a whole number above 0, got {rank!r}")
        share = UniLoraSettings(facts.get("share", SHARED)).share
        slots = slots_from_dict(facts)
        sized = tuple(Sized(slot, *size) for slot, size in zip(slots, sizes, strict=True))
        features = [side for one in sized for side in (one.in_features, one.out_features)]
        if not sized or not all(type(side) is int and side >= 1 for side in features):
            raise InputError(f"projections have whole numbers of features, got {sizes}")
        check_slots(sized)
        expected = -(-_numbers(sized, rank) // share)
        theta = tensors.get("theta")
        if set(tensors) != {"theta"} or theta is None or theta.shape != (expected,):
            raise IntegrityError(f"expected one vector of {expected} numbers, theta")
        return UniLoraAdapter(sized, rank, alpha, theta, share)


def _numbers(sized: Sequence[Sized], rank: int) -> int:
    return rank * sum(one.in_features + one.out_features for one in sized)


UNI_LORA = UniLoraKind()
