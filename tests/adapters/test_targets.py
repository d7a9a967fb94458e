"""Adapters go to exactly the projections of the branch, in every supported family."""

from __future__ import annotations

from pathlib import Path

import pytest
from backbones import DEPTH, HIDDEN

from expertbank.adapters.targets import FAMILIES, find_targets
from expertbank.errors import UnsupportedModelError
from expertbank.models.backbone import load_backbone

QUERY_AND_VALUE = {
    "bert": ("encoder.layer.{}.attention.self.query", "encoder.layer.{}.attention.self.value"),
    "distilbert": ("transformer.layer.{}.attention.q_lin", "transformer.layer.{}.attention.v_lin"),
    "llama": ("layers.{}.self_attn.q_proj", "layers.{}.self_attn.v_proj"),
}
QUERY_AND_VALUE |= dict.fromkeys(
    ["roberta", "xlm-roberta", "camembert", "electra"], QUERY_AND_VALUE["bert"]
)
QUERY_AND_VALUE |= dict.fromkeys(["mistral", "qwen2", "qwen3"], QUERY_AND_VALUE["llama"])


def test_every_supported_family_is_tried_here() -> None:
    assert set(QUERY_AND_VALUE) == set(FAMILIES)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("route_layer", [1, 3])
def test_query_and_value_of_the_branch_layers_and_nothing_else(
    load_tiny, family: str, route_layer: int
) -> None:
    backbone = load_tiny(family)
    targets = find_targets(backbone.model, backbone.family, route_layer, ("query", "value"))
    patterns = QUERY_AND_VALUE[family]
    expected = [p.format(layer) for layer in range(route_layer, DEPTH) for p in patterns]
    assert [target.path for target in targets] == expected
    assert [target.layer for target in targets] == [
        layer for layer in range(route_layer, DEPTH) for _ in patterns
    ]
    for target in targets:
        weight = backbone.model.get_submodule(target.path).weight
        assert (target.out_features, target.in_features) == tuple(weight.shape)
        assert target.in_features == HIDDEN


def test_grouped_query_attention_gives_value_its_own_width(load_tiny) -> None:
    backbone = load_tiny("llama")
    query, value = find_targets(backbone.model, backbone.family, DEPTH - 1, ("query", "value"))
    assert (query.out_features, value.out_features) == (HIDDEN, HIDDEN // 2)


def test_an_unknown_family_is_refused_with_its_modules_named(backbone_folder) -> None:
    folder: Path = backbone_folder("gpt2")
    with pytest.raises(UnsupportedModelError, match="gpt2") as caught:
        load_backbone(str(folder))
    for name in ("c_attn", "c_proj", "c_fc"):
        assert name in str(caught.value)
    assert "distilbert" in str(caught.value), "and the families that are supported"


def test_a_projection_that_is_not_linear_is_refused(bert) -> None:
    bert.layers[2].attention.self.value = bert.layers[2].attention.output
    with pytest.raises(UnsupportedModelError, match=r"layer\.2\.attention\.self\.value"):
        find_targets(bert.model, bert.family, 1, ("query", "value"))


def test_a_projection_that_is_missing_is_refused(bert) -> None:
    del bert.layers[3].attention.self.query
    with pytest.raises(UnsupportedModelError, match=r"no module encoder\.layer\.3"):
        find_targets(bert.model, bert.family, 1, ("query", "value"))
