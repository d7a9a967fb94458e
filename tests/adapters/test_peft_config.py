"""Every setting of a PEFT configuration is understood, passed over for a reason, or refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from expertbank.adapters.peft_config import PeftConfig
from expertbank.errors import InputError

peft = pytest.importorskip("peft")


def written(**settings: Any) -> dict[str, Any]:
    """As PEFT writes it; sets become lists in JSON."""
    config = peft.LoraConfig(**{"target_modules": ["query", "value"], "r": 4, **settings})
    return {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in config.to_dict().items()
    } | {"peft_type": "LORA"}


def test_what_peft_writes_without_wishes_is_understood() -> None:
    found = PeftConfig.of(written(lora_alpha=16, modules_to_save=["score"]), "here")
    assert (found.rank, found.alpha, found.saved) == (4, 16.0, ("score",))
    assert found.scale_of("layer.0.query") == 4.0
    assert found.targets is not None
    assert found.targets.selects("bert.layer.0.query")
    assert found.saves("score.weight")
    assert found.saves("pre_score.weight"), "as PEFT has it"
    assert not found.saves("scores.weight")


def test_rank_stabilised_adapters_are_scaled_by_the_root_of_the_rank() -> None:
    found = PeftConfig.of(written(lora_alpha=16, use_rslora=True), "here")
    assert found.scale_of("query") == pytest.approx(16 / math.sqrt(4))


def test_ranks_and_alphas_of_single_modules_are_theirs() -> None:
    patterns = {"rank_pattern": {"query": 8, "layer.1.value": 2}, "alpha_pattern": {"value": 1}}
    found = PeftConfig.of(written(lora_alpha=16, **patterns), "here")
    ranks = [found.rank_of(f"layer.{n}.{name}") for n in (0, 1) for name in ("query", "value")]
    assert ranks == [8, 4, 8, 2]
    assert found.scale_of("layer.1.query") == 16 / 8
    assert found.scale_of("layer.1.value") == 1 / 2


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"layers_to_transform": [1, 3]},
        {"layers_to_transform": 2},
        {"layers_to_transform": [1], "layers_pattern": "layer"},
        {"layers_to_transform": [1], "layers_pattern": ["h", "layer"]},
        {"layers_to_transform": [1], "layers_pattern": "h"},
        {"exclude_modules": ["value", "encoder.layer.0.query"]},
        {"target_modules": ["encoder.layer.0.query", "value"]},
    ],
)
def test_modules_are_selected_as_peft_selects_them(settings: dict[str, Any]) -> None:
    from peft.tuners.tuners_utils import check_target_module_exists

    config = peft.LoraConfig(**{"target_modules": ["query", "value"], **settings})
    found = PeftConfig.of(written(**settings), "here").targets
    assert found is not None
    names = ["query", "key", "value", "encoder.layer.query", "pooler.dense"]
    names += [f"encoder.layer.{n}.{name}" for n in range(4) for name in ("query", "value")]
    theirs = [bool(check_target_module_exists(config, name)) for name in names]
    assert [found.selects(name) for name in names] == theirs


def test_a_pattern_for_modules_is_left_to_the_tensors() -> None:
    assert PeftConfig.of(written(target_modules=r".*\.(query|value)"), "here").targets is None


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"peft_type": "LOHA"}, "only LoRA"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "lora_only"}, "bias"),
        ({"lora_bias": True}, "biases"),
        ({"trainable_token_indices": [1]}, "embeddings"),
        ({"layer_replication": [[0, 2]]}, "layers"),
        ({"target_parameters": ["experts.w"]}, "parameters"),
        ({"init_lora_weights": "pissa"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "OLoRA"}, "path_initial_model_for_weight_conversion"),
        ({"a_setting_of_tomorrow": 3}, "a_setting_of_tomorrow"),
        ({"r": 0}, "rank"),
        ({"r": "4"}, "rank"),
        ({"lora_alpha": float("nan")}, "alpha"),
        ({"lora_alpha": 10**400}, "is no alpha"),
        ({"alpha_pattern": {"value": 10**400}}, "is no alpha"),
        ({"rank_pattern": {"(a+)+$": 3}}, "a regular expression"),
        ({"layers_pattern": "(a+)+", "layers_to_transform": [1]}, "plain name"),
        ({"target_modules": 3}, "list of names"),
        ({"layers_to_transform": [-1]}, "number of a layer"),
    ],
)
def test_what_an_expert_cannot_do_is_refused_by_name(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word) as refused:
        PeftConfig.of(written() | settings, "some/adapter_config.json")
    assert "some/adapter_config.json" in str(refused.value)


@pytest.mark.parametrize("value", [None, [], "LORA", {"peft_type": "LORA"}])
def test_what_is_no_configuration_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="here"):
        PeftConfig.of(value, "here")
