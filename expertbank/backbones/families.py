"""The model families that can be a backbone, each with everything in which it differs.

Read off the models of transformers 5.23; each entry is tested against a tiny model of its
family whose weights were changed densely. A family from outside is added by
``FAMILIES.register("model_type", Family(...))`` or by an entry point ``expertbank.families``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from expertbank.backbones.slices import Slices
from expertbank.config import POOLINGS, ROLES
from expertbank.plugins import Plugins, unlike
from expertbank.records import Activation, HeadPooling


@dataclass(frozen=True, slots=True)
class Classifier:
    """The head of transformers' class for labelled sequences (``…ForSequenceClassification``).

    Attributes:
        output: dotted path of its last layer in that class.
        pooling: what it reads of the last hidden states, unscaled.
        dense: path of the dense layer before it, if there is one: in that class, or, as BERT's
            pooler, in the bare model.
        activation: what follows that layer.
    """

    output: str
    pooling: HeadPooling
    dense: str | None = None
    activation: Activation = "tanh"


@dataclass(frozen=True, slots=True)
class Gguf:
    """How a language model of the family is held by GGUF files of llama.cpp.

    Attributes:
        architecture: what llama.cpp calls it (``general.architecture``).
        interleaved: whether the rows of each head's queries and keys are stored with the two
            halves that rotate together one by one (``undo_permute`` of its converter).
    """

    architecture: str
    interleaved: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """Where a family keeps its layers and, inside a layer, its projections.

    Attributes:
        layers: dotted path of the ``ModuleList`` of layers in the bare model.
        projections: role to dotted path inside one layer.
        pooling: how an expert's head reads the last hidden states unless told otherwise.
        fused: for one module that computes all roles: which of its columns are a role's, by the
            model's configuration.
        shared: roles whose projection also serves something else than the tokens in the same
            pass, by the model's configuration. They cannot be adapted.
        spent_positions: places that no token can have, of those that the configuration names.
            Only for a model whose position table is no embedding: any other is measured.
        classifier: the head that other programs train on it, if an expert's can be the same.
        gguf: how GGUF files hold it, if an expert can be written as an adapter for them.
    """

    layers: str
    projections: dict[str, str]
    pooling: HeadPooling = "mean"
    fused: Callable[[Any, str], Slices] | None = None
    shared: Callable[[Any], frozenset[str]] | None = None
    spent_positions: int = 0
    classifier: Classifier | None = None
    gguf: Gguf | None = None


def _apart(prefix: str, query: str, key: str, value: str) -> dict[str, str]:
    return {"query": prefix + query, "key": prefix + key, "value": prefix + value}


def _together(path: str) -> dict[str, str]:
    return dict.fromkeys(ROLES, path)


def _columns(role: str, groups: int, query: int, key_value: int) -> Slices:
    """Slices of ``groups`` stretches, each ``query`` columns, then key and value."""
    stride = query + 2 * key_value
    offset = {"query": 0, "key": query, "value": query + key_value}[role]
    size = query if role == "query" else key_value
    return Slices(groups * stride, groups, stride, offset, size)


def _head_size(config: Any) -> int:
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(size)


def _three_blocks(config: Any, role: str) -> Slices:
    """All queries, then all keys, then all values; fewer of the latter in grouped attention."""
    size, heads = _head_size(config), config.num_attention_heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    return _columns(role, 1, heads * size, shared * size)


def _head_by_head(config: Any, role: str) -> Slices:
    """Query, key and value of the first head, then of the second, and so on."""
    size = config.hidden_size // config.num_attention_heads
    return _columns(role, config.num_attention_heads, size, size)


def _falcon(config: Any, role: str) -> Slices:
    """Groups of queries, each with its key and value; three generations by how many groups."""
    heads = config.num_attention_heads
    if config.new_decoder_architecture:
        groups = config.num_kv_heads or heads
    else:
        groups = 1 if config.multi_query else heads
    size = config.hidden_size // heads
    return _columns(role, groups, heads // groups * size, size)


def _deberta_shared(config: Any) -> frozenset[str]:
    """With ``share_att_key`` the relative positions pass through query and key as well."""
    relative = getattr(config, "relative_attention", False)
    if relative and getattr(config, "share_att_key", False):
        return frozenset({"query", "key"})
    return frozenset()


_SELF_ATTENTION = _apart("self_attn.", "q_proj", "k_proj", "v_proj")

_SCORE = Classifier("score", "last")

BERT = Family(
    "encoder.layer",
    _apart("attention.self.", "query", "key", "value"),
    classifier=Classifier("classifier", "first", "pooler.dense"),
)
ROBERTA = replace(
    BERT, classifier=Classifier("classifier.out_proj", "first", "classifier.dense", "tanh")
)
ELECTRA = replace(
    BERT, classifier=Classifier("classifier.out_proj", "first", "classifier.dense", "gelu")
)
DISTILBERT = Family(
    "transformer.layer",
    _apart("attention.", "q_lin", "k_lin", "v_lin"),
    classifier=Classifier("classifier", "first", "pre_classifier", "relu"),
)
DEBERTA = Family(
    "encoder.layer",
    _apart("attention.self.", "query_proj", "key_proj", "value_proj"),
    shared=_deberta_shared,
    classifier=Classifier("classifier", "first", "pooler.dense", "gelu"),
)
MODERNBERT = Family("layers", _together("attn.Wqkv"), fused=_three_blocks)
LLAMA = Family("layers", _SELF_ATTENTION, "last", classifier=_SCORE, gguf=Gguf("llama", True))
QWEN2 = replace(LLAMA, gguf=Gguf("qwen2"))
QWEN3 = replace(LLAMA, gguf=Gguf("qwen3"))
GEMMA = replace(LLAMA, gguf=Gguf("gemma"))
GEMMA2 = replace(LLAMA, gguf=Gguf("gemma2"))
GEMMA3 = replace(LLAMA, gguf=Gguf("gemma3"))
OPT = Family("decoder.layers", _SELF_ATTENTION, "last", classifier=_SCORE)


def _fused(layers: str, path: str, columns: Callable[[Any, str], Slices]) -> Family:
    return Family(layers, _together(path), "last", columns, classifier=_SCORE)


PHI3 = _fused("layers", "self_attn.qkv_proj", _three_blocks)
GPT2 = _fused("h", "attn.c_attn", _three_blocks)
GPT_NEOX = _fused("layers", "attention.query_key_value", _head_by_head)
BLOOM = _fused("h", "self_attention.query_key_value", _head_by_head)
FALCON = _fused("h", "self_attention.query_key_value", _falcon)

_OWN = {
    "bert": "BERT",
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), "ROBERTA"),
    "electra": "ELECTRA",
    "distilbert": "DISTILBERT",
    "deberta-v2": "DEBERTA",
    "modernbert": "MODERNBERT",
    **dict.fromkeys(("llama", "mistral"), "LLAMA"),
    "qwen2": "QWEN2",
    "qwen3": "QWEN3",
    "gemma": "GEMMA",
    "gemma2": "GEMMA2",
    "gemma3_text": "GEMMA3",
    "opt": "OPT",
    "phi3": "PHI3",
    "gpt2": "GPT2",
    "gpt_neox": "GPT_NEOX",
    "bloom": "BLOOM",
    "falcon": "FALCON",
}


def _complaint(name: str, plugin: object) -> str | None:
    if not isinstance(plugin, Family):
        return unlike(plugin, Family)
    missing = [role for role in ROLES if role not in plugin.projections]
    if missing:
        return f"lacks the projections {', '.join(missing)}"
    if plugin.pooling not in POOLINGS:
        return f"has the pooling {plugin.pooling!r}; there are {', '.join(POOLINGS)}"
    return None


FAMILIES: Plugins[Family] = Plugins(
    "family",
    "expertbank.families",
    own={model_type: f"{__name__}:{name}" for model_type, name in _OWN.items()},
    complaint=_complaint,
)
"""Families by model type (``config.model_type``). Of others the modules must be named."""


def listed(model_type: str) -> Family | None:
    """The family of a model type, ``None`` where nobody added one.

    Raises:
        InputError: a plugin brings it and cannot be used.
    """
    return FAMILIES.get(model_type) if model_type in FAMILIES.names() else None
