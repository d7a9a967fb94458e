"""The conversion to LoRA is exact, and PEFT reads it as we mean it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expertbank.adapters.hooks import bound
from expertbank.adapters.peft import lora_factors, lora_rank, lora_tensors, peft_config
from expertbank.adapters.peft_targets import in_full
from expertbank.adapters.targets import find_targets
from expertbank.adapters.tt import TTAdapter, group_targets
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import collate
from expertbank.backbones.running import call_backbone
from expertbank.errors import IntegrityError

FAMILIES = ("bert", "llama", "gpt2", "gpt_neox", "bloom", "phi3", "modernbert")


@given(
    ranks=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    inside=st.integers(1, 9),
    outside=st.integers(1, 9),
)
@settings(max_examples=30, derandomize=True)
def test_lora_factors_multiply_to_the_update_in_every_shape_and_mixture_of_ranks(
    ranks: list[int], inside: int, outside: int
) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    factors = {f"layer.{n}.q": (draw(inside, r), draw(r, outside)) for n, r in enumerate(ranks)}
    tensors = lora_tensors(factors)
    assert lora_rank(factors) == max(ranks)
    for path, (a, b) in factors.items():
        lora_a = tensors[f"base_model.model.{path}.lora_A.weight"]
        lora_b = tensors[f"base_model.model.{path}.lora_B.weight"]
        assert lora_a.shape == (max(ranks), inside)
        assert lora_b.shape == (outside, max(ranks))
        assert torch.allclose((lora_b @ lora_a).T, a @ b, rtol=0, atol=1e-12)
    for path, (a, b) in lora_factors(tensors, scale=2.0).items():
        own = factors[path][0].shape[1]
        assert torch.equal(a[:, :own], factors[path][0])
        assert torch.equal(b[:own], 2 * factors[path][1])
        assert not a[:, own:].any()
        assert not b[own:].any()


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t.pop("base_model.model.q.lora_A.weight"),
        lambda t: t.pop("base_model.model.q.lora_B.weight"),
        lambda t: t.update({"base_model.model.q.bias": torch.ones(2)}),
        lambda t: t.update({"base_model.model.q.lora_A.weight": torch.ones(3, 4)}),
    ],
)
def test_tensors_that_are_no_lora_pairs_are_refused(
    damage: Callable[[dict[str, torch.Tensor]], object],
) -> None:
    tensors = lora_tensors({"q": (torch.ones(4, 2), torch.ones(2, 4))})
    assert lora_factors(tensors, 1.0)
    damage(tensors)
    with pytest.raises(IntegrityError):
        lora_factors(tensors, 1.0)


def random_adapter(backbone: Backbone, route_layer: int) -> TTAdapter:
    """An adapter whose update is far from zero."""
    targets = find_targets(backbone.model, backbone.family, route_layer, ("query", "value"))
    generator = torch.Generator().manual_seed(3)
    adapter = TTAdapter.fresh(group_targets(targets, 5), 4.0, generator)
    with torch.no_grad():
        for core in adapter.parameters():
            core.copy_(torch.randn(core.shape, generator=generator) * 0.6)
    return adapter


@pytest.mark.parametrize("family", FAMILIES)
def test_peft_gives_the_hidden_states_that_the_expert_gives(
    family: str, load_tiny: Callable[[str], Backbone], tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    from safetensors.torch import save_file

    backbone = load_tiny(family)
    adapter = random_adapter(backbone, route_layer=1)
    factors = {path: (a.detach(), b.detach()) for path, (a, b) in adapter.collapse().items()}
    rows = tiny.random_rows(6, seed=1)
    batch = collate(rows, range(6), 0, torch.device("cpu"))
    real = batch.attention_mask.bool()
    with torch.no_grad():
        bare = call_backbone(backbone, batch)[real]
        with bound(backbone.model, lambda: factors, list(factors)):
            ours = call_backbone(backbone, batch)[real]

    kind = type(backbone.model.get_submodule(next(iter(factors)))).__name__
    config = peft_config(
        in_full(factors),
        lora_rank(factors),
        base_model=backbone.reference,
        fan_in_fan_out=kind == "Conv1D",
    )
    peft.LoraConfig.from_peft_type(**config).save_pretrained(tmp_path)
    tensors = lora_tensors(factors)
    save_file(tensors, tmp_path / "adapter_model.safetensors", {"format": "pt"})
    fresh = load_tiny(family)
    model = peft.PeftModel.from_pretrained(fresh.model, str(tmp_path))
    assert len(peft.get_peft_model_state_dict(model)) == len(tensors), "no module was left out"
    with torch.no_grad():
        theirs = call_backbone(fresh, batch)[real]  # PEFT put its layers into this very model
    assert (ours - bare).abs().max() > 0.05, "the update must matter"
    # The same sums in another order; how far they part depends on the processor.
    assert (theirs - ours).abs().max() < 1e-4
