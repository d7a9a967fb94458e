"""Answers that the language model writes: mixed batches, each row as it would be alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_routed import expert_of
from tiny import build, spec_of
from torch import Tensor
from transformers import AutoModelForCausalLM

from expertbank.adapters import hooks
from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.stack import CollapsedExpert
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.backbones.batches import collate
from expertbank.backbones.language import language_head
from expertbank.errors import IntegrityError, UnsupportedModelError
from expertbank.models.routed import RoutedModel
from expertbank.models.writing import WriteOptions, Written
from expertbank.records import EncodedRow
from expertbank.writing import Sampling, Writing

FAMILIES = ("llama", "mistral", "gemma2", "gpt2", "opt with a projection", "bloom")
PROMPTS = ((2, 5, 9, 11, 3), (2, 8, 30, 17, 21, 6, 12, 3), (2, 33, 3), (2, 19, 21, 6, 12, 3))
ROUTES = ("b@1", "a@1", "head@1", "a@1")
TEMPLATES = {"a@1": "yes no", "b@1": ""}
STEPS = 7


def loaded(folder: Path, family: str, language: str | None = "tied") -> Backbone:
    return load_backbone(str(build(folder, family, language=language)), device="cpu")


def rows() -> list[EncodedRow]:
    return [EncodedRow((ids,), ((0,) * len(ids),)) for ids in PROMPTS]


def experts_of(backbone: Backbone, first_layer: int = 2) -> dict[str, CollapsedExpert]:
    """Two experts that write, and one with a head."""
    head = language_head(backbone).digest
    found = {}
    for seed, name in enumerate(("a@1", "b@1", "head@1")):
        expert = expert_of(backbone, name, seed, first_layer=first_layer)
        if name in TEMPLATES:
            writing = Writing(TEMPLATES[name], (), STEPS + seed, head)
            none = torch.empty(0, 0)
            expert = replace(expert, head_weight=none, head_bias=none.flatten(), writing=writing)
        else:
            weight = torch.ones(2, backbone.output_size)
            expert = replace(expert, head_weight=weight, head_bias=torch.zeros(2))
        found[name] = expert
    return found


def routed_model(
    backbone: Backbone, experts: dict[str, CollapsedExpert], route_layer: int = 2
) -> RoutedModel:
    paper = {"states": (len(backbone.layers),), "poolings": ("last",)}
    spec = spec_of(backbone, route_layer, **({} if route_layer else paper))
    return RoutedModel(backbone, spec, ExpertPool.holding(experts))


def passed(model: RoutedModel, options: WriteOptions | None = None, places=range(4)):
    batch = collate(rows(), list(places), 0, model.backbone.device, left=True)
    return model(batch, lambda _, own: [ROUTES[p] for p in own], options or WriteOptions())


def by_hand(causal, backbone: Backbone, expert: CollapsedExpert, prompt) -> list[int]:
    """One prompt with transformers' own loop; the adapter bound whatever is generated."""
    forced = backbone.tokenizer(TEMPLATES[expert.id], add_special_tokens=False).input_ids
    ids = torch.tensor([[*prompt, *forced]])
    with hooks.bound(causal.base_model, lambda: expert.factors, list(expert.factors)):
        found = causal.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=expert.writing.max_tokens,
            do_sample=False,
            eos_token_id=3,
            pad_token_id=0,
        )
    return found[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize(
    ("family", "first_layer"), [*((family, 2) for family in FAMILIES), ("llama", 0), ("gpt2", 1)]
)
def test_a_mixed_batch_writes_what_each_prompt_gets_alone_from_transformers(
    family: str, first_layer: int, tmp_path: Path
) -> None:
    backbone = loaded(tmp_path, family)
    experts = {**experts_of(backbone), "a@1": experts_of(backbone, first_layer)["a@1"]}
    causal = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    output = passed(routed_model(backbone, experts))
    assert output.experts == ROUTES
    for prompt, name, written in zip(PROMPTS, ROUTES, output.written, strict=True):
        if name == "head@1":
            assert written is None
            continue
        assert written is not None
        expected = by_hand(causal, backbone, experts[name], prompt)
        ended = expected[-1] == 3
        assert written.tokens == len(expected)
        assert written.finish == ("stop" if ended else "length")
        assert written.text == backbone.tokenizer.decode(expected, skip_special_tokens=True)


def alone(model: RoutedModel, place: int, options: WriteOptions | None = None) -> Written:
    (written,) = passed(model, options, [place]).written
    assert written is not None
    return written


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return loaded(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture
def model(llama: Backbone) -> RoutedModel:
    return routed_model(llama, experts_of(llama))


def test_the_prompt_is_read_once_and_routed_by_the_features_of_a_plain_pass(
    model: RoutedModel,
) -> None:
    assert model.writer, "made beforehand: making it tries the model on a few tokens"
    read: list[int] = []
    handle = model.backbone.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: read.append((args or [kwargs["hidden_states"]])[0].shape[1]),
        with_kwargs=True,
    )
    output = passed(model)
    handle.remove()
    assert read[0] == max(map(len, PROMPTS))
    assert set(read[1:]) == {1}
    plain = model.trunk_features(collate(rows(), range(4), 0, model.backbone.device))
    torch.testing.assert_close(output.features.float(), plain.float(), rtol=0, atol=2e-3)


def test_a_row_with_a_head_is_answered_in_the_pass_of_rows_that_are_written(
    model: RoutedModel,
) -> None:
    right_padded = collate(rows(), range(4), 0, model.backbone.device)
    named = model(right_padded, lambda _, own: ["head@1"] * len(own))
    output = passed(model)
    torch.testing.assert_close(output.logits[2, :2], named.logits[2], rtol=0, atol=1e-4)
    assert output.logits[2, 2:].isneginf().all()


def test_two_passes_write_too(llama: Backbone) -> None:
    model = routed_model(llama, experts_of(llama, 0), 0)
    assert [w and w.text for w in passed(model).written] == [
        None if name == "head@1" else alone(model, place).text for place, name in enumerate(ROUTES)
    ]


def test_the_figures_are_likelihoods_of_what_was_written(model: RoutedModel) -> None:
    backbone = model.backbone
    expert = model.pool.expert("b@1")
    causal = AutoModelForCausalLM.from_pretrained(backbone.place.path).eval()
    written = alone(model, 0)
    tokens = by_hand(causal, backbone, expert, PROMPTS[0])
    ids = torch.tensor([[*PROMPTS[0], *tokens]])
    with (
        torch.no_grad(),
        hooks.bound(causal.base_model, lambda: expert.factors, list(expert.factors)),
    ):
        logits = causal(input_ids=ids).logits[0, len(PROMPTS[0]) - 1 : -1].double()
    chances: Tensor = logits.log_softmax(-1)[range(len(tokens)), tokens]
    best = logits.topk(2).values
    expected = [
        float(chances[0]),
        float((1 - chances[0].exp()).log()),
        float(chances.sum()),
        float((best[:, 0] - best[:, 1]).min()),
    ]
    assert written.figures == pytest.approx(expected, abs=1e-3)


def test_an_answer_ends_before_a_stop_text_and_not_for_one_in_its_prompt(
    model: RoutedModel,
) -> None:
    whole = alone(model, 0)
    words = whole.text.split()
    assert len(words) > 2
    stopped = alone(model, 0, WriteOptions(lambda row: Sampling(stop=(words[2],))))
    assert stopped.text == whole.text[: whole.text.index(words[2])]
    assert stopped.finish == "stop"
    inside = model.backbone.tokenizer.decode(PROMPTS[0][1])
    assert inside not in whole.text
    assert alone(model, 0, WriteOptions(lambda row: Sampling(stop=(inside,)))).text == whole.text


def test_drawn_answers_follow_their_seed_whatever_shares_the_batch(model: RoutedModel) -> None:
    def sampling(row: int) -> Sampling:
        return Sampling(temperature=1.5, seed=row)

    before = torch.random.get_rng_state()
    together = passed(model, WriteOptions(sampling)).written
    assert torch.equal(torch.random.get_rng_state(), before)
    for place in (0, 1, 3):
        assert together[place] is not None
        assert alone(model, place, WriteOptions(sampling)).text == together[place].text
    seeds = {
        alone(model, 0, WriteOptions(lambda _, s=s: Sampling(1.5, seed=s))).text for s in range(5)
    }
    assert len(seeds) > 1
    narrow = alone(model, 0, WriteOptions(lambda row: Sampling(temperature=1.5, top_p=1e-9)))
    assert narrow.text == alone(model, 0).text, "the likeliest token alone is left"


def test_what_is_told_grows_to_the_answer_and_false_ends_it(model: RoutedModel) -> None:
    heard: list[str] = []

    def told(row: int, text: str) -> bool:
        heard.append(text)
        return len(heard) < 3

    ended = alone(model, 0, WriteOptions(told=told))
    assert len(heard) == 3
    assert heard[0]
    assert heard[-1] == ended.text
    assert heard[2].startswith(heard[1])
    assert heard[1].startswith(heard[0])


def test_an_answer_ends_where_the_backbone_can_read_no_more(model: RoutedModel) -> None:
    long = EncodedRow(((2, *[9] * 58, 3),), ((0,) * 60,))
    assert model.backbone.longest_sequence == 64
    batch = collate([long], [0], 0, model.backbone.device, left=True)
    sampling = WriteOptions(lambda row: Sampling(max_tokens=500))
    (written,) = model(batch, lambda *_: ["b@1"], sampling).written
    assert written is not None
    assert written.finish == "stop" or written.tokens == 5
    whole = EncodedRow(((2, *[9] * 62, 3),), ((0,) * 64,))
    batch = collate([whole], [0], 0, model.backbone.device, left=True)
    (none,) = model(batch, lambda *_: ["a@1"], sampling).written
    assert none is not None, "not even the template has room"
    assert (none.text, none.tokens, none.finish) == ("", 0, "length")


@pytest.mark.parametrize("family", ["gpt_neox", "gemma2"])
def test_a_head_of_its_own_is_read_from_the_files_and_belongs_to_its_experts(
    family: str, tmp_path: Path
) -> None:
    backbone = loaded(tmp_path, family, "own")
    causal = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.tensor([PROMPTS[1]])
    with torch.no_grad():
        expected = causal(input_ids=ids).logits[0]
        states = backbone.model(input_ids=ids).last_hidden_state[0]
        found = language_head(backbone).scores(states)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    expert = experts_of(backbone)["a@1"]
    other = replace(expert, writing=replace(expert.writing, head="0" * 64))
    with pytest.raises(IntegrityError, match="language-model head"):
        routed_model(backbone, {"a@1": other}).pool.expert("a@1")


def test_the_head_is_given_rows_that_lie_together(llama: Backbone) -> None:
    head = language_head(llama)
    given: list[bool] = []
    handle = head.outer.lm_head.register_forward_pre_hook(
        lambda module, inputs: given.append(inputs[0].is_contiguous())
    )
    states = torch.randn(3, 5, llama.output_size)
    apart = head.scores(states[:, -1])
    handle.remove()
    assert given == [True]
    assert torch.equal(apart, head.scores(states[:, -1].clone()))


@pytest.mark.parametrize(
    ("family", "said"), [("bert", "encoder"), ("llama", "hold no language-model head")]
)
def test_a_backbone_that_cannot_write_is_refused_with_the_reason(
    family: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModelError, match=said):
        language_head(loaded(tmp_path, family, None))
