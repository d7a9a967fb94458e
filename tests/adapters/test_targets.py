"""Adapters go to exactly the projections of the branch, in every supported family."""

from __future__ import annotations

import pytest
from tiny import DEPTH, HIDDEN, REFUSED, SUPPORTED, UNLISTED

from expertbank.adapters.targets import find_targets, named_targets
from expertbank.backbones.backbone import load_backbone
from expertbank.backbones.families import FAMILIES
from expertbank.backbones.recognise import family_of, linear_shape
from expertbank.backbones.roles import find_roles
from expertbank.config import ROLES
from expertbank.errors import UnsupportedModelError

BERT = ("encoder.layer.{}.attention.self.query", "encoder.layer.{}.attention.self.value")
LLAMA = ("layers.{}.self_attn.q_proj", "layers.{}.self_attn.v_proj")
QUERY_AND_VALUE = {
    **dict.fromkeys(["bert", "roberta", "xlm-roberta", "camembert", "electra"], BERT),
    **dict.fromkeys(["llama", "mistral", "qwen2", "qwen3"], LLAMA),
    **dict.fromkeys(["gemma", "gemma2", "gemma3_text"], LLAMA),
    **dict.fromkeys(["opt", "opt with a projection"], tuple(f"decoder.{p}" for p in LLAMA)),
    "distilbert": ("transformer.layer.{}.attention.q_lin", "transformer.layer.{}.attention.v_lin"),
    "deberta-v2": ("encoder.layer.{}.attention.self.value_proj",),
    "deberta-v2 with its own positions": [f"{path}_proj" for path in BERT],
    "modernbert": ("layers.{}.attn.Wqkv",) * 2,
    "phi3": ("layers.{}.self_attn.qkv_proj",) * 2,
    "gpt2": ("h.{}.attn.c_attn",) * 2,
    "gpt_neox": ("layers.{}.attention.query_key_value",) * 2,
    "bloom": ("h.{}.self_attention.query_key_value",) * 2,
    "falcon": ("h.{}.self_attention.query_key_value",) * 2,
    "falcon with one key": ("h.{}.self_attention.query_key_value",) * 2,
    "falcon with a key a head": ("h.{}.self_attention.query_key_value",) * 2,
}


def test_every_supported_family_is_tried() -> None:
    assert {name.split()[0] for name in SUPPORTED} == set(FAMILIES.names())
    assert set(QUERY_AND_VALUE) == set(SUPPORTED)


@pytest.mark.parametrize("family", SUPPORTED)
@pytest.mark.parametrize("route_layer", [0, 3])
def test_query_and_value_of_the_branch_layers_and_nothing_else(
    load_tiny, family: str, route_layer: int
) -> None:
    backbone = load_tiny(family)
    targets = find_targets(backbone.model, backbone.family, route_layer)
    patterns = QUERY_AND_VALUE[family]
    expected = [p.format(layer) for layer in range(route_layer, DEPTH) for p in patterns]
    assert [target.path for target in targets] == expected
    assert [target.layer for target in targets] == [
        layer for layer in range(route_layer, DEPTH) for _ in patterns
    ]
    for target in targets:
        module = backbone.model.get_submodule(target.path)
        width = target.columns.width if target.columns else target.out_features
        assert sorted(module.weight.shape) == sorted((target.in_features, width))
        assert target.in_features == HIDDEN


def test_grouped_query_attention_gives_value_its_own_width(load_tiny) -> None:
    backbone = load_tiny("llama")
    query, value = find_targets(backbone.model, backbone.family, DEPTH - 1, ("query", "value"))
    assert (query.out_features, value.out_features) == (HIDDEN, HIDDEN // 2)


@pytest.mark.parametrize("family", REFUSED)
def test_a_model_without_layers_of_its_own_is_refused_with_its_modules_named(
    backbone_folder, family: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=family) as caught:
        load_backbone(str(backbone_folder(family)))
    for name in {"albert": ("query", "value", "ffn_output"), "bart": ("q_proj", "fc1")}[family]:
        assert name in str(caught.value)
    assert "distilbert" in str(caught.value), "and the families that are supported"
    assert "--target" in str(caught.value)
    why = {"albert": "no single list of layers", "bart": "has an encoder and a decoder"}[family]
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("family", "layers", "pooling", "name"),
    [
        ("mpnet", "encoder.layer", "mean", "attention.attn.q"),
        ("granite", "layers", "last", "q_proj"),
    ],
)
def test_a_model_without_clear_roles_asks_for_names_and_says_which_there_are(
    load_tiny,
    family: str,
    layers: str,
    pooling: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The roles of these two are clear: here the search is made to find none.
    monkeypatch.setattr("expertbank.backbones.recognise.find_roles", lambda *_: None)
    backbone = load_tiny(family)
    assert (backbone.family.layers, backbone.family.pooling) == (layers, pooling)
    with pytest.raises(UnsupportedModelError, match="--target") as caught:
        find_targets(backbone.model, backbone.family, 2)
    assert name.rsplit(".", 1)[-1] in str(caught.value)
    targets = named_targets(backbone.model, backbone.family, 2, [name])
    assert [target.layer for target in targets] == [2, 3]
    assert all(target.path.endswith(name) and target.columns is None for target in targets)


FOUND = {
    "mpnet": ("encoder.layer", "attention.attn.{}", "q", "k", "v"),
    "granite": ("layers", "self_attn.{}_proj", "q", "k", "v"),
    "nomic_bert": ("layers", "self_attn.{}_proj", "q", "k", "v"),
    "eurobert": ("layers", "self_attn.{}_proj", "q", "k", "v"),
    "smollm3": ("layers", "self_attn.{}_proj", "q", "k", "v"),
    "olmo2": ("layers", "self_attn.{}_proj", "q", "k", "v"),
    "gpt_bigcode": ("h", "attn.{}", "c_attn", "c_attn", "c_attn"),
    "t5": ("encoder.block", "layer.0.SelfAttention.{}", "q", "k", "v"),
    "umt5": ("encoder.block", "layer.0.SelfAttention.{}", "q", "k", "v"),
}


@pytest.mark.parametrize("family", UNLISTED)
def test_a_model_outside_the_table_shows_its_roles_when_it_is_tried(load_tiny, family: str) -> None:
    found = load_tiny(family).family
    layers, pattern, *names = FOUND[family]
    assert found.layers == layers
    assert found.projections == {
        role: pattern.format(name) for role, name in zip(ROLES, names, strict=True)
    }
    encoder = family in {"mpnet", "nomic_bert", "eurobert", "t5", "umt5"}
    assert found.pooling == ("mean" if encoder else "last")


@pytest.mark.parametrize("family", SUPPORTED)
def test_trying_a_model_of_the_table_finds_what_the_table_says(load_tiny, family: str) -> None:
    """The table was written by reading; this asks the models. It knows of no names."""
    backbone = load_tiny(family)
    model, listed = backbone.model, backbone.family
    layers = [f"{listed.layers}.{number}" for number in range(DEPTH)]
    linear = [
        path
        for path, module in model.named_modules()
        if linear_shape(module) is not None and path.startswith(f"{listed.layers}.")
    ]
    found = find_roles(model, layers, linear)
    if family == "deberta-v2":  # its relative positions pass through query and key as well
        assert found is None
        return
    assert found is not None
    assert dict(found.projections) == listed.projections
    expected = {role: listed.fused(model.config, role) for role in ROLES} if listed.fused else None
    assert found.columns == expected


def test_a_name_takes_every_module_that_ends_in_it_and_whole_parts_only(bert) -> None:
    def inside(*names: str) -> list[str]:
        return [target.role for target in named_targets(bert.model, bert.family, 3, names)]

    assert inside("dense") == ["attention.output.dense", "intermediate.dense", "output.dense"]
    assert inside("attention.output.dense") == ["attention.output.dense"]
    assert inside("key", "intermediate.dense") == ["attention.self.key", "intermediate.dense"]
    with pytest.raises(UnsupportedModelError, match=r"'ense'.*dense, key, query, value"):
        inside("query", "ense")


def test_a_module_that_runs_on_something_else_too_is_refused(load_tiny) -> None:
    deberta = load_tiny("deberta-v2")
    with pytest.raises(UnsupportedModelError, match="query_proj cannot be adapted"):
        named_targets(deberta.model, deberta.family, 2, ["query_proj"])
    with pytest.raises(UnsupportedModelError, match="relative positions"):
        find_targets(deberta.model, deberta.family, 2, ["query"])
    assert len(named_targets(deberta.model, deberta.family, 2, ["value_proj"])) == 2


def test_trying_a_model_leaves_no_hook_on_it(load_tiny) -> None:
    backbone = load_tiny("granite")
    named_targets(backbone.model, backbone.family, 0, ["up_proj"])
    assert not any(module._forward_pre_hooks for module in backbone.model.modules())


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [("gemma3_text", "use_bidirectional_attention", True), ("llama", "is_causal", False)],
)
def test_an_embedding_model_made_of_a_decoder_is_read_as_an_encoder(
    load_tiny, family: str, field: str, value: bool
) -> None:
    backbone = load_tiny(family)
    assert backbone.family.pooling == "last"
    setattr(backbone.model.config, field, value)
    assert family_of(family, backbone.model).pooling == "mean"


def test_a_projection_that_is_not_linear_is_refused(bert) -> None:
    bert.layers[2].attention.self.value = bert.layers[2].attention.output
    with pytest.raises(UnsupportedModelError, match=r"layer\.2\.attention\.self\.value"):
        find_targets(bert.model, bert.family, 1, ("query", "value"))


def test_a_projection_that_is_missing_is_refused(bert) -> None:
    del bert.layers[3].attention.self.query
    with pytest.raises(UnsupportedModelError, match=r"no module encoder\.layer\.3"):
        find_targets(bert.model, bert.family, 1, ("query", "value"))
