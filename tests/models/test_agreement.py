"""Model and tokenizer are held against each other before a bank is made: real models, tried."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

from expertbank.backbones import probe
from expertbank.backbones.backbone import load_backbone
from expertbank.models.agreement import disagreement, producible

FAMILIES = (*tiny.SUPPORTED, *tiny.UNLISTED)


def edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def built(folder: Path, family: str, **fields: object) -> Path:
    """A tiny model of ``family`` with another configuration, and its own tokenizer."""
    tiny.tokenizer(family).save_pretrained(folder)
    config = AutoConfig.for_model(family, **{**tiny.CONFIGS[family], **fields})
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_the_models_of_every_family_fit_their_tokenizers(load_tiny, family: str) -> None:
    assert disagreement(load_tiny(family)) == ""


@pytest.mark.parametrize(
    ("family", "fields", "longest"),
    [
        ("bert", {}, 64),
        ("gpt2", {}, 64),
        ("opt", {}, 64),
        ("roberta", {}, 62),
        ("mpnet", {}, 62),
        ("roberta", {"pad_token_id": 0}, 63),
        ("roberta", {"pad_token_id": 7}, 56),
        ("bloom", {}, None),
        ("llama", {}, 64),
    ],
)
def test_the_positions_are_those_that_the_model_can_look_up(
    tmp_path: Path, family: str, fields: dict[str, int], longest: int | None
) -> None:
    backbone = load_backbone(str(built(tmp_path, family, **fields)), device="cpu")
    assert backbone.longest_sequence == longest
    table = probe.positions(backbone.model).most
    if table is not None:
        fits, longer = torch.full((1, table), 9), torch.full((1, table + 1), 9)
        backbone.model(input_ids=fits, attention_mask=torch.ones_like(fits))
        with pytest.raises((IndexError, RuntimeError)):
            backbone.model(input_ids=longer, attention_mask=torch.ones_like(longer))


def test_the_default_length_heeds_the_tokenizers_own(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path, "bert")
    assert load_backbone(str(folder), device="cpu").default_length(256) == 64
    edit(folder / "tokenizer_config.json", model_max_length=24)
    assert load_backbone(str(folder), device="cpu").default_length(256) == 24
    assert load_backbone(str(folder), device="cpu").default_length(16) == 16


def add_pad(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<new pad>"})
    tokenizer.save_pretrained(folder)


def add_words(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["quark", "gluon"])
    tokenizer.save_pretrained(folder)


def longer_template(folder: Path) -> None:
    """The template puts a token around every text that no vocabulary has."""
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"]["special_tokens"]["[SEP]"]["ids"] = [99]
    (folder / "tokenizer.json").write_text(json.dumps(content))


def more_types(folder: Path) -> None:
    edit(folder / "config.json", type_vocab_size=1)
    weights = load_file(folder / "model.safetensors")
    name = "embeddings.token_type_embeddings.weight"
    weights[name] = weights[name][:1].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def infinite(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.LayerNorm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("family", "damage", "said"),
    [
        ("gpt2", add_pad, "'<new pad>' is number 38, and the embedding has 38 rows, 0 to 37"),
        ("bert", add_words, "'quark' is number 38 (and 1 more)"),
        ("bert", longer_template, "number 99"),
        ("bert", more_types, "type 1, and the model knows 1"),
        ("bert", infinite, "not numbers"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(
    tmp_path: Path, family: str, damage: Callable[[Path], None], said: str
) -> None:
    folder = tiny.build(tmp_path, family)
    damage(folder)
    found = disagreement(load_backbone(str(folder), device="cpu"))
    assert said in found
    assert "\n" not in found


@pytest.mark.parametrize(("family", "counted"), [("roberta", 5), ("mpnet", 1)])
def test_another_pad_token_is_refused_where_positions_are_counted_by_it(
    tmp_path: Path, family: str, counted: int
) -> None:
    folder = built(tmp_path, family, pad_token_id=counted)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = "[SEP]"
    tokenizer.save_pretrained(folder)
    found = disagreement(load_backbone(str(folder), device="cpu"))
    assert f"its padding token, number {counted}, and the tokenizer pads with number 3" in found


def test_another_pad_token_is_harmless_where_the_mask_alone_counts(tmp_path: Path) -> None:
    folder = built(tmp_path, "bert", pad_token_id=5)
    assert disagreement(load_backbone(str(folder), device="cpu")) == ""


def test_states_that_depend_on_the_padding_are_refused(
    load_tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_tiny("bert")
    forward = type(backbone.model).forward

    def heedless(self: object, attention_mask: torch.Tensor, **inputs: object) -> object:
        return forward(self, attention_mask=torch.ones_like(attention_mask), **inputs)

    monkeypatch.setattr(type(backbone.model), "forward", heedless)
    assert "does not heed the attention mask" in disagreement(backbone)


def test_a_token_that_only_the_class_adds_is_left_to_the_row_that_has_it(load_tiny) -> None:
    backbone = load_tiny("qwen2")
    beyond = backbone.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert beyond >= backbone.vocabulary
    assert beyond not in producible(backbone)


def test_resizing_as_the_message_says_mends_it(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path, "gpt2")
    add_pad(folder)
    model = AutoModel.from_pretrained(folder)
    model.resize_token_embeddings(39)
    model.save_pretrained(folder)
    assert disagreement(load_backbone(str(folder), device="cpu")) == ""
