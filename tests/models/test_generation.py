"""Generation with routed experts: decided at the prompt, kept for the decode steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from test_routed import expert_of
from tiny import CONFIGS, spec_of, tokenizer
from torch import Tensor
from transformers import AutoConfig, LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM

from expertbank.adapters import hooks
from expertbank.adapters.pool import CollapsedExpert, ExpertPool
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.identity import Identity
from expertbank.backbones.recognise import family_of
from expertbank.errors import InputError, UnsupportedModelError
from expertbank.models.generation import generating
from expertbank.models.routed import RoutedModel
from expertbank.references import Place

CAUSAL = {"llama": LlamaForCausalLM, "mistral": MistralForCausalLM, "qwen2": Qwen2ForCausalLM}
NAMES = ("a@1", "b@1", "c@1")
IDENTITY = Identity("0" * 64, "0" * 64, {})
PROMPTS = ((5, 9, 11), (8, 30, 17, 21, 6), (33, 4), (19, 21, 6, 12))
ROUTES = ("b@1", "a@1", "c@1", "a@1")
STEPS = 6


def causal_model(family: str) -> tuple[torch.nn.Module, Backbone]:
    """A tiny language model, and the backbone inside it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        causal = CAUSAL[family](AutoConfig.for_model(family, **CONFIGS[family]))
        with torch.no_grad():
            for parameter in causal.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, parameter.shape[-1] ** -0.5)
    causal.eval().requires_grad_(False)
    model = causal.model
    backbone = Backbone(
        model,
        tokenizer(family),
        family_of(family, model),
        family,
        Place(Path()),
        IDENTITY,
        "0" * 64,
    )
    return causal, backbone


def experts_of(backbone: Backbone, route_layer: int) -> dict[str, CollapsedExpert]:
    return {
        name: expert_of(backbone, name, seed, route_layer=route_layer)
        for seed, name in enumerate(NAMES)
    }


def padded(prompts: Sequence[Sequence[int]], *, left: bool = True) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids, mask = [], []
    for prompt in prompts:
        fill = [0] * (width - len(prompt))
        ids.append([*fill, *prompt] if left else [*prompt, *fill])
        ones = [1] * len(prompt)
        mask.append([*fill, *ones] if left else [*ones, *fill])
    return torch.tensor(ids), torch.tensor(mask)


def by_prompt(features: Tensor, prompts: Sequence[int]) -> list[str]:
    return [ROUTES[prompt] for prompt in prompts]


def generate(causal, ids: Tensor, mask: Tensor, **options) -> Tensor:
    """New tokens only; the end token is kept out, so that all rows are equally long."""
    wishes = {"max_new_tokens": STEPS, "min_new_tokens": STEPS, "do_sample": False, **options}
    found = causal.generate(input_ids=ids, attention_mask=mask, pad_token_id=0, **wishes)
    return found[:, ids.shape[1] :]


def by_hand(causal, backbone: Backbone, expert: CollapsedExpert, prompt, **options) -> Tensor:
    """One prompt, the adapter bound to the projections whatever is generated."""
    ids, mask = padded([prompt])
    with hooks.bound(backbone.model, lambda: expert.factors, list(expert.factors)):
        return generate(causal, ids, mask, **options)


@pytest.mark.parametrize("route_layer", [2, 0])
@pytest.mark.parametrize("family", CAUSAL)
def test_a_mixed_left_padded_batch_generates_what_each_prompt_does_with_its_adapter_by_hand(
    family: str, route_layer: int
) -> None:
    causal, backbone = causal_model(family)
    experts = experts_of(backbone, route_layer)
    expected = [
        by_hand(causal, backbone, experts[name], prompt)[0]
        for name, prompt in zip(ROUTES, PROMPTS, strict=True)
    ]
    routed = routed_model(backbone, experts, route_layer)
    ids, mask = padded(PROMPTS)
    with generating(routed, ids, mask, by_prompt) as made:
        together = generate(causal, ids, mask)
    assert made.experts == ROUTES
    assert torch.equal(together, torch.stack(expected))
    bare = generate(causal, ids, mask)
    assert not torch.equal(together, bare), "the adapters are meant to matter"


def routed_model(
    backbone: Backbone, experts: dict[str, CollapsedExpert], route_layer: int = 2
) -> RoutedModel:
    paper = {"states": (len(backbone.layers),), "poolings": ("last",)}
    spec = spec_of(backbone, route_layer, **({} if route_layer else paper))
    return RoutedModel(backbone, spec, ExpertPool.holding(experts))


@pytest.fixture
def llama() -> tuple[torch.nn.Module, Backbone, RoutedModel]:
    causal, backbone = causal_model("llama")
    return causal, backbone, routed_model(backbone, experts_of(backbone, 2))


def test_a_prompt_is_routed_by_the_features_of_a_plain_pass_and_asked_about_once(llama) -> None:
    causal, _, routed = llama
    ids, mask = padded(PROMPTS)
    seen: list[Tensor] = []

    def decide(features: Tensor, prompts: Sequence[int]) -> list[str]:
        seen.append(features)
        return by_prompt(features, prompts)

    with generating(routed, ids, mask, decide):
        generate(causal, ids, mask)
    # Three tokens at a time: no pass reads the whole prompt, so routing takes one of its own.
    with generating(routed, ids, mask, decide):
        generate(causal, ids, mask, prefill_chunk_size=3)
    assert len(seen) == 2
    torch.testing.assert_close(seen[0].float(), seen[1].float(), rtol=0, atol=2e-3)


def test_chunked_prefill_generates_what_whole_prefill_does(llama) -> None:
    causal, _, routed = llama
    ids, mask = padded(PROMPTS)
    with generating(routed, ids, mask, by_prompt):
        whole = generate(causal, ids, mask)
    with generating(routed, ids, mask, by_prompt) as made:
        chunked = generate(causal, ids, mask, prefill_chunk_size=2)
    assert made.experts == ROUTES
    assert torch.equal(whole, chunked)


def test_beams_and_several_samples_keep_the_choice_of_their_prompt(llama) -> None:
    causal, backbone, routed = llama
    experts = experts_of(backbone, 2)
    ids, mask = padded(PROMPTS)
    beams = {"num_beams": 3, "num_return_sequences": 2}
    expected = [
        by_hand(causal, backbone, experts[name], prompt, **beams)
        for name, prompt in zip(ROUTES, PROMPTS, strict=True)
    ]
    with generating(routed, ids, mask, by_prompt) as made:
        together = generate(causal, ids, mask, **beams)
    assert made.experts == ROUTES
    assert torch.equal(together, torch.cat(expected))


def generate_one_then_two(causal, ids: Tensor, mask: Tensor) -> None:
    for copies in (1, 2):
        generate(causal, ids, mask, num_beams=copies)


def test_another_batch_within_the_block_is_refused(llama) -> None:
    causal, _, routed = llama
    ids, mask = padded(PROMPTS)
    with (
        pytest.raises(UnsupportedModelError, match=r"3 sequences .* 4 prompts"),
        generating(routed, ids, mask, by_prompt),
    ):
        generate(causal, ids[:3], mask[:3])
    with (
        pytest.raises(UnsupportedModelError, match=r"8 sequences .* 4 prompts"),
        generating(routed, ids, mask, by_prompt),
    ):
        generate_one_then_two(causal, ids, mask)


def test_continuous_batching_is_refused(llama) -> None:
    _, backbone, routed = llama
    ids, mask = padded(PROMPTS)
    config = backbone.model.config
    before = config._attn_implementation
    config._attn_implementation = "paged|sdpa"
    try:
        with (
            pytest.raises(UnsupportedModelError, match="continuous batching"),
            generating(routed, ids, mask, by_prompt),
        ):
            raise AssertionError("the block must not be entered")
    finally:
        config._attn_implementation = before


def test_a_block_in_which_the_backbone_never_ran_says_that_nothing_was_adapted(llama) -> None:
    _, _, routed = llama
    other, _ = causal_model("llama")
    ids, mask = padded(PROMPTS)
    with (
        pytest.raises(InputError, match="is not adapted"),
        generating(routed, ids, mask, by_prompt),
    ):
        generate(other, ids, mask)


def test_prompts_without_a_real_token_or_with_another_mask_are_refused(llama) -> None:
    _, _, routed = llama
    ids, mask = padded(PROMPTS)
    with (
        pytest.raises(InputError, match="no real token"),
        generating(routed, ids, torch.zeros_like(mask), by_prompt),
    ):
        pass
    with (
        pytest.raises(InputError, match="must both"),
        generating(routed, ids, mask[:, 1:], by_prompt),
    ):
        pass


def test_after_a_generation_the_language_model_is_bare_again(llama, tmp_path: Path) -> None:
    causal, _, routed = llama
    ids, mask = padded(PROMPTS)
    bare = generate(causal, ids, mask)
    with generating(routed, ids, mask, by_prompt):
        generate(causal, ids, mask)
    assert torch.equal(generate(causal, ids, mask), bare)


def test_replicas_of_data_parallel_are_refused(llama) -> None:
    _, backbone, _ = llama
    replica = backbone.layers[0]._replicate_for_data_parallel()
    with pytest.raises(UnsupportedModelError, match="DataParallel"):
        replica(torch.zeros(1, 2, backbone.hidden_size))
