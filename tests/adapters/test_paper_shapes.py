"""The paper's own figures: LLaMA-3.2-1B at full depth, TT rank 5, query and value."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModel

from expertbank.adapters.targets import find_targets
from expertbank.adapters.tt import TTAdapter, group_targets
from expertbank.backbones.families import FAMILIES


def test_llama_1b_needs_33920_adapter_parameters_where_lora_needs_1703936() -> None:
    """TT-LoRA MoE, arXiv 2504.21190, section 4: 2% of LoRA's with r = 16."""
    config = AutoConfig.for_model(
        "llama",
        hidden_size=2048,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        intermediate_size=8192,
        vocab_size=128256,
    )
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    targets = find_targets(model, FAMILIES.get("llama"), 0, ("query", "value"))
    assert len(targets) == 32
    assert {(target.in_features, target.out_features) for target in targets} == {
        (2048, 2048),
        (2048, 512),
    }
    adapter = TTAdapter.fresh(group_targets(targets, 5), 16.0, torch.Generator().manual_seed(0))
    assert adapter.parameter_count == 33_920
    assert group_targets(targets, None) == adapter.groups
    # LoRA: A [in, 16] and B [16, out] on the same projections.
    lora = sum(16 * (target.in_features + target.out_features) for target in targets)
    assert lora == 1_703_936
    assert round(adapter.parameter_count / lora, 3) == 0.02
