"""Tiny random backbones of real families, saved as a user would find them: safetensors files.

Weights are random but larger than a fresh model's, so that tokens, layers and adapters matter
visibly in the outputs. Building one leaves the global random state as it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForTextEncoding,
    PreTrainedTokenizerFast,
)

from expertbank.backbones.backbone import Backbone
from expertbank.config import FeatureSpec
from expertbank.records import EncodedRow, Target

WORDS = (
    *[
        "is",
        "the",
        "sky",
        "blue",
        "red",
        "green",
        "yes",
        "no",
        "light",
        "dark",
        "a",
        "an",
        "of",
        "and",
        "not",
        "good",
        "bad",
        "film",
        "plot",
    ],
    *[
        "river",
        "bank",
        "money",
        "loan",
        "goal",
        "match",
        "team",
        "player",
        "vote",
        "law",
        "tax",
        "party",
        "cell",
        "gene",
        "virus",
    ],
)
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
VOCABULARY = len(SPECIALS) + len(WORDS)
DEPTH = 4
HIDDEN = 32

_NO_SPECIALS = {"bos_token_id": None, "eos_token_id": None}
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    **_NO_SPECIALS,
}
_ROBERTA = {**_SIZES, "pad_token_id": 1, "type_vocab_size": 1}
_GROUPED = {**_SIZES, "num_key_value_heads": 2}
_GEMMA = {**_GROUPED, "head_dim": 12}
_SLIDING = {
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention"] * (DEPTH // 2),
}
_DEBERTA = {
    **_SIZES,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_FALCON = {
    **{name: value for name, value in _SIZES.items() if name != "intermediate_size"},
    "bias": True,
}
_T5 = {
    "vocab_size": VOCABULARY,
    "d_model": HIDDEN,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": DEPTH,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "feed_forward_proj": "gated-gelu",
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "eos_token_id": None,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "bert": _SIZES,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": {**_SIZES, "embedding_size": 16},
    "distilbert": {
        "vocab_size": VOCABULARY,
        "dim": HIDDEN,
        "n_layers": DEPTH,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    },
    "deberta-v2": {**_DEBERTA, "share_att_key": True},
    "deberta-v2 with its own positions": _DEBERTA,
    "modernbert": {
        **_SIZES,
        "cls_token_id": None,
        "sep_token_id": None,
        "local_attention": 8,
        "global_attn_every_n_layers": 2,
    },
    "llama": _GROUPED,
    "mistral": {**_GROUPED, "sliding_window": 6},
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 8},
    "gemma": _GEMMA,
    "gemma2": {**_GEMMA, **_SLIDING},
    "gemma3_text": {**_GEMMA, **_SLIDING},
    "opt": {
        **{name: value for name, value in _SIZES.items() if name != "intermediate_size"},
        "ffn_dim": 48,
        "word_embed_proj_dim": HIDDEN,
    },
    "opt with a projection": {
        **{name: value for name, value in _SIZES.items() if name != "intermediate_size"},
        "ffn_dim": 48,
        "word_embed_proj_dim": 24,
    },
    "phi3": {**_GROUPED, "sliding_window": 6},
    "gpt2": {
        "vocab_size": VOCABULARY,
        "n_embd": HIDDEN,
        "n_layer": DEPTH,
        "n_head": 4,
        "n_positions": 64,
        "pad_token_id": 0,
        **_NO_SPECIALS,
    },
    "gpt_neox": _SIZES,
    "bloom": {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "n_layer": DEPTH,
        "n_head": 4,
        "pad_token_id": 0,
        **_NO_SPECIALS,
    },
    "falcon": {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2},
    "falcon with one key": {**_FALCON, "multi_query": True},
    "falcon with a key a head": {**_FALCON, "multi_query": False, "alibi": True},
    "mpnet": _ROBERTA,
    "granite": {**_GROUPED, "residual_multiplier": 0.5},
    "nomic_bert": _GROUPED,
    "eurobert": {**_GROUPED, "mask_token_id": 1},
    "smollm3": _GROUPED,
    "olmo2": _GROUPED,
    "gpt_bigcode": {
        "vocab_size": VOCABULARY,
        "n_embd": HIDDEN,
        "n_layer": DEPTH,
        "n_head": 4,
        "n_positions": 64,
        "pad_token_id": 0,
        **_NO_SPECIALS,
    },
    "t5": _T5,
    "umt5": _T5,
    "albert": {**_SIZES, "embedding_size": 16},
    "bart": {
        "vocab_size": VOCABULARY,
        "d_model": HIDDEN,
        "encoder_layers": DEPTH,
        "decoder_layers": DEPTH,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": None,
        **_NO_SPECIALS,
    },
}
"""Every family in the table and its variants by name, and some that are not in it.

What stands before the first space is the model type.
"""
UNLISTED = (
    *("mpnet", "granite", "nomic_bert", "eurobert", "smollm3", "olmo2", "gpt_bigcode"),
    *("t5", "umt5"),
)
"""Not in the table: their layers, and where query, key and value are, is found by trying them."""
REFUSED = ("albert", "bart")
"""Shared layers; an encoder-decoder."""
SUPPORTED = tuple(name for name in CONFIGS if name not in {*UNLISTED, *REFUSED})


def build(
    folder: Path, family: str = "bert", *, seed: int = 0, language: str | None = None
) -> Path:
    """Write a tiny random backbone of ``family`` and its tokenizer to ``folder``.

    ``language`` writes the whole language model: its head ``tied`` to the embedding, or its
    ``own``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tied = {} if language is None else {"tie_word_embeddings": language == "tied"}
        config = AutoConfig.for_model(family.split()[0], **{**CONFIGS[family], **tied})
        kind = AutoModel if language is None else AutoModelForCausalLM
        if CONFIGS[family] is _T5:
            kind = AutoModelForTextEncoding
        model = kind.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, parameter.shape[-1] ** -0.5)
    model.save_pretrained(folder)
    tokenizer(family).save_pretrained(folder)
    # Named as every release of transformers knows it, and none turns it into another.
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


def tokenizer(family: str = "bert") -> PreTrainedTokenizerFast:
    """A word-level tokenizer; encoders get ``[CLS] … [SEP]``, BERT gets token type ids."""
    # RoBERTa-type models keep position and token id 1 for padding.
    first = ("[UNK]", "[PAD]") if CONFIGS[family] is _ROBERTA else SPECIALS[:2]
    names = [*first, *SPECIALS[2:], *WORDS]
    backend = Tokenizer(
        models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    second = 1 if family in {"bert", "electra"} else 0
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair=f"[CLS]:0 $A:0 [SEP]:0 $B:{second} [SEP]:{second}",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=[*inputs, "token_type_ids"] if second else inputs,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def spec_of(backbone: Backbone, route_layer: int = 2, **fields: Any) -> FeatureSpec:
    """A feature spec that reads every trunk state of ``backbone``."""
    states = tuple(range(route_layer + 1))
    return FeatureSpec(
        backbone.digest,
        route_layer,
        **{"states": states, "poolings": ("mean", "first"), "max_length": 32, **fields},
    )


def random_rows(
    count: int, seed: int, *, classes: int = 2, lengths: Sequence[int] = tuple(range(3, 15))
) -> tuple[EncodedRow, ...]:
    """Rows of random words, each with a random target; the same seed gives the same rows."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        length = lengths[int(torch.randint(len(lengths), (), generator=generator))]
        words = torch.randint(len(SPECIALS), VOCABULARY, (length,), generator=generator).tolist()
        target = int(torch.randint(classes, (), generator=generator))
        rows.append(row_of(words, target))
    return tuple(rows)


def keyword_rows(count: int, seed: int, word: str, other: str) -> tuple[EncodedRow, ...]:
    """Short random rows whose class is which of two words stands in them: learnable."""
    generator = torch.Generator().manual_seed(seed)
    words = (len(SPECIALS) + WORDS.index(other), len(SPECIALS) + WORDS.index(word))
    rows = []
    for row in random_rows(count, seed, lengths=(2, 3, 4)):
        target = int(row.target or 0)  # type: ignore[arg-type]
        ids = [i for i in row.sequences[0][1:-1] if i not in words]
        place = int(torch.randint(len(ids) + 1, (), generator=generator))
        rows.append(row_of([*ids[:place], words[target], *ids[place:]], target))
    return tuple(rows)


def row_of(ids: Sequence[int], target: Target | None = None) -> EncodedRow:
    """One sequence between ``[CLS]`` and ``[SEP]``."""
    sequence = (2, *ids, 3)
    return EncodedRow((sequence,), ((0,) * len(sequence),), target)


def choice_rows(count: int, seed: int, word: str, most: int = 5) -> tuple[EncodedRow, ...]:
    """Rows of 2 to ``most`` choices behind one context; the right one has ``word`` in it."""
    generator = torch.Generator().manual_seed(seed)
    known = len(SPECIALS) + WORDS.index(word)

    def words(number: int) -> list[int]:
        drawn = torch.randint(len(SPECIALS), VOCABULARY - 1, (number,), generator=generator)
        return [place + (place >= known) for place in drawn.tolist()]

    rows = []
    for _ in range(count):
        choices = 2 + int(torch.randint(most - 1, (), generator=generator))
        target = int(torch.randint(choices, (), generator=generator))
        context = words(3)
        sequences = []
        for place in range(choices):
            own = words(2)
            if place == target:
                own[int(torch.randint(2, (), generator=generator))] = known
            sequences.append((2, *context, 3, *own, 3))
        types = tuple((0,) * 5 + (1,) * 3 for _ in sequences)
        rows.append(EncodedRow(tuple(sequences), types, target))
    return tuple(rows)


def value_rows(count: int, seed: int, word: str, other: str) -> tuple[EncodedRow, ...]:
    """Rows whose value is linear in what they hold: 100, and 7 more or less for each word."""
    generator = torch.Generator().manual_seed(seed)
    known = [len(SPECIALS) + WORDS.index(name) for name in (word, other)]
    rest = [place for place in range(len(SPECIALS), VOCABULARY) if place not in known]
    rows = []
    for _ in range(count):
        up, down = torch.randint(4, (2,), generator=generator).tolist()
        fill = torch.randint(len(rest), (6 - up - down,), generator=generator).tolist()
        ids = [known[0]] * up + [known[1]] * down + [rest[place] for place in fill]
        order = torch.randperm(len(ids), generator=generator).tolist()
        rows.append(row_of([ids[place] for place in order], 100.0 + 7 * (up - down)))
    return tuple(rows)


def flag_rows(count: int, seed: int, *words: str) -> tuple[EncodedRow, ...]:
    """Rows whose labels are which of ``words`` stand in them: any number, none included."""
    generator = torch.Generator().manual_seed(seed)
    known = [len(SPECIALS) + WORDS.index(name) for name in words]
    rest = [place for place in range(len(SPECIALS), VOCABULARY) if place not in known]
    rows = []
    for _ in range(count):
        holds = torch.randint(2, (len(words),), generator=generator).tolist()
        fill = torch.randint(len(rest), (4,), generator=generator).tolist()
        ids = [place for place, one in zip(known, holds, strict=True) if one]
        ids += [rest[place] for place in fill]
        order = torch.randperm(len(ids), generator=generator).tolist()
        target = tuple(map(float, holds))
        rows.append(row_of([ids[place] for place in order], target))
    return tuple(rows)


def written_rows(count: int, seed: int, word: str, other: str) -> tuple[EncodedRow, ...]:
    """Rows of ``keyword_rows`` that are answered by words: ``good film``, or ``bad``."""
    answers = (("bad",), ("good", "film"))
    found = []
    for row in keyword_rows(count, seed, word, other):
        words = answers[int(row.target or 0)]  # type: ignore[arg-type]
        ids = tuple(len(SPECIALS) + WORDS.index(one) for one in words)
        found.append(replace(row, target=" ".join(words), continuation=(*ids, 3)))
    return tuple(found)
