"""An expert's update as ordinary LoRA factors, exactly, under the names that PEFT gives them.

With input cores before output cores a tensor train collapses to ``ΔW = A B`` whose rank is the
middle TT rank, so TT-LoRA converts to LoRA without loss: ``lora_A = Aᵀ``, ``lora_B = α·Bᵀ``. The
multiplier is already in ``B``, so ``lora_alpha = r`` makes LoRA's own scale ``lora_alpha / r``
one. A fused projection has one pair too, its roles side by side in the rank.

All modules get the same rank, the largest; the others are padded with zeros, which changes no
product. The alternative, PEFT's ``rank_pattern``, is ignored by serving engines that read only
``r``, and they would then scale those modules wrongly without saying so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from expertbank.adapters.peft_targets import PeftTargets
from expertbank.adapters.slots import Factors
from expertbank.errors import IntegrityError

PREFIX = "base_model.model."
"""What PEFT writes before a module's path in the wrapped model."""

_A, _B = LORA_ENDS = (".lora_A.weight", ".lora_B.weight")


def lora_rank(factors: Factors) -> int:
    """The rank that all modules of an expert get: the largest any of them needs."""
    return max(a.shape[1] for a, _ in factors.values())


def padded(factors: Factors) -> dict[str, tuple[Tensor, Tensor]]:
    """Factors of one rank, as LoRA files hold them.

    Args:
        factors: projection path to ``A [in, r]`` and ``alpha·B [r, out]``; ranks may differ.

    Returns:
        Path to ``lora_A [rank, in]`` and ``lora_B [out, rank]``, of the factors' own type, with
        ``rank`` as ``lora_rank`` gives it.
    """
    rank = lora_rank(factors)
    pairs = {}
    for path, (a, b) in factors.items():
        own = a.shape[1]
        lora_a, lora_b = a.new_zeros(rank, a.shape[0]), b.new_zeros(b.shape[1], rank)
        lora_a[:own], lora_b[:, :own] = a.T, b.T
        pairs[path] = lora_a, lora_b
    return pairs


def lora_tensors(factors: Factors) -> dict[str, Tensor]:
    """Factors as PEFT stores them: those of ``padded`` under its names."""
    tensors: dict[str, Tensor] = {}
    for path, (lora_a, lora_b) in padded(factors).items():
        tensors[f"{PREFIX}{path}{_A}"] = lora_a
        tensors[f"{PREFIX}{path}{_B}"] = lora_b
    return tensors


def lora_factors(tensors: Mapping[str, Tensor], scale: float) -> dict[str, tuple[Tensor, Tensor]]:
    """Inverse of ``lora_tensors``: what a folder's tensors add to the backbone.

    Args:
        tensors: the contents of an ``adapter_model.safetensors``.
        scale: ``lora_alpha / r`` of its configuration.

    Returns:
        Projection path to ``A [in, rank]`` and ``scale·B [rank, out]``.

    Raises:
        IntegrityError: a tensor with another name or shape than a LoRA pair's.
    """
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    for name, lora_a in tensors.items():
        if not name.startswith(PREFIX) or not name.endswith((_A, _B)):
            raise IntegrityError(f"{name} is not a LoRA factor")
        if name.endswith(_B):
            continue
        path = name.removeprefix(PREFIX).removesuffix(_A)
        lora_b = tensors.get(f"{PREFIX}{path}{_B}")
        if lora_b is None or lora_a.dim() != 2 or lora_b.shape[1:] != lora_a.shape[:1]:
            raise IntegrityError(f"the LoRA factors of {path} do not fit each other")
        factors[path] = lora_a.T, lora_b.T * scale
    if 2 * len(factors) != len(tensors):
        raise IntegrityError("a LoRA factor has no partner")
    return factors


def peft_config(
    targets: PeftTargets,
    rank: int,
    *,
    base_model: str,
    revision: str | None = None,
    fan_in_fan_out: bool,
) -> dict[str, Any]:
    """The contents of PEFT's ``adapter_config.json`` for one expert.

    Args:
        targets: which modules it adapts.
        rank: their common rank.
        base_model: Hub name of the backbone, or where it stands beside the adapter.
        revision: the Hub's commit.
        fan_in_fan_out: the projections keep their weight as ``[in, out]``, as GPT-2's do.
    """
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base_model,
        "revision": revision,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        **targets.to_config(),
        "fan_in_fan_out": fan_in_fan_out,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
