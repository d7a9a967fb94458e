"""The digest that expertbank 0.1 knew backbones by; banks made then still name theirs by it.

It is taken over the loaded model and tokenizer, so releases of transformers and tokenizers can
change it. It only serves to recognise a backbone until its lasting identity is recorded
(``backbones.identity``). Nothing here may change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from expertbank.backbones.weight_files import is_pooler
from expertbank.config import canonical_json

LISTED = frozenset(
    {
        "bert",
        "bloom",
        "camembert",
        "deberta-v2",
        "distilbert",
        "electra",
        "falcon",
        "gemma",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "gpt_neox",
        "llama",
        "mistral",
        "modernbert",
        "opt",
        "phi3",
        "qwen2",
        "qwen3",
        "roberta",
        "xlm-roberta",
    }
)
"""The model types of 0.1's table of families: of these only ``ARCHITECTURE_FIELDS`` count."""

ARCHITECTURE_FIELDS = (
    "model_type",
    "hidden_size",
    "dim",
    "num_hidden_layers",
    "n_layers",
    "num_attention_heads",
    "n_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "hidden_dim",
    "hidden_act",
    "activation",
    "layer_norm_eps",
    "rms_norm_eps",
    "max_position_embeddings",
    "position_embedding_type",
    "sliding_window",
    "type_vocab_size",
    "embedding_size",
    "vocab_size",
    "pad_token_id",
    "is_decoder",
    "use_sliding_window",
    "max_window_layers",
    "layer_types",
    "local_attention",
    "use_bidirectional_attention",
    "hidden_activation",
    "activation_function",
    "layer_norm_epsilon",
    "norm_eps",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
    "original_max_position_embeddings",
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
    "use_parallel_residual",
    "apply_residual_connection_post_layernorm",
    "do_layer_norm_before",
    "_remove_final_layer_norm",
    "word_embed_proj_dim",
    "alibi",
    "multi_query",
    "new_decoder_architecture",
    "num_kv_heads",
    "num_ln_in_parallel_attn",
    "parallel_attn",
    "relative_attention",
    "max_relative_positions",
    "position_buckets",
    "pos_att_type",
    "share_att_key",
    "norm_rel_ebd",
    "position_biased_input",
    "conv_act",
)
"""Configuration fields that change what the same weights compute, in the table's families."""

IDLE_FIELDS = frozenset(
    {
        "_name_or_path",
        "architectures",
        "dtype",
        "id2label",
        "initializer_range",
        "label2id",
        "output_attentions",
        "output_hidden_states",
        "problem_type",
        "return_dict",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
"""Fields of every configuration that change nothing a backbone computes here."""


def architecture_of(config: Any) -> dict[str, Any]:
    """The configuration fields that belong to the backbone's identity.

    Releases of transformers differ in which fields they fill in and in where they keep the
    rotary embedding's; what computes the same is written the same here, so that an upgrade
    does not make another backbone of it.
    """
    if config.model_type not in LISTED:
        # Nobody has read which of its fields matter, so all do that are not known to be idle.
        fields = json.loads(config.to_json_string(use_diff=False))
        return {name: value for name, value in fields.items() if name not in IDLE_FIELDS}
    values = {name: getattr(config, name, None) for name in ARCHITECTURE_FIELDS}
    values["rope"] = _rope_of(config)
    heads = values["num_attention_heads"]
    if values["head_dim"] and heads and values["head_dim"] * heads == values["hidden_size"]:
        values["head_dim"] = None  # said by these two; some releases fill it in
    if values["local_attention"] is not None:  # ModernBERT's window, which 5 shows halved as well
        values["sliding_window"] = None
        values["layer_types"] = values["layer_types"] or _layer_types(config)
    return {name: value for name, value in values.items() if not _is_usual(value)}


def _is_usual(value: object) -> bool:
    """Whether a value means what leaving the field out means; a zero does not."""
    return value is None or value is False or value == "absolute"


def _layer_types(config: Any) -> list[str]:
    """Kinds of attention by layer, from the one number that transformers 4 keeps."""
    every = config.global_attn_every_n_layers
    return [
        "sliding_attention" if layer % every else "full_attention"
        for layer in range(config.num_hidden_layers)
    ]


def _rope_of(config: Any) -> dict[str, Any] | None:
    """Rotary settings, by kind of attention where the kinds differ.

    One dictionary since transformers 5, which holds one for each kind of attention in some
    families; before, fields of various names.
    """
    settings = getattr(config, "rope_parameters", None) or {}
    if settings and all(isinstance(value, dict) for value in settings.values()):
        return {kind: _one_rope(value.get("rope_theta"), value) for kind, value in settings.items()}
    if settings:
        return _one_rope(settings.get("rope_theta"), settings)
    theta = getattr(config, "rope_theta", None) or getattr(config, "global_rope_theta", None)
    local = getattr(config, "rope_local_base_freq", None)
    local = getattr(config, "local_rope_theta", None) if local is None else local
    if theta is None:
        # GPT-NeoX
        theta = getattr(config, "rotary_emb_base", None)
    part = getattr(config, "partial_rotary_factor", None) or getattr(config, "rotary_pct", None)
    scaling = {"partial_rotary_factor": part, **(getattr(config, "rope_scaling", None) or {})}
    whole = _one_rope(theta, scaling)
    if local is None:
        return whole
    return {"sliding_attention": _one_rope(local, {}), "full_attention": whole}


def _one_rope(theta: float | None, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    if theta is None:
        return None
    kept = {
        name: value
        for name, value in settings.items()
        if name != "type" and (name, value) != ("partial_rotary_factor", 1) and value is not None
    }
    return {"rope_type": "default", **kept, "rope_theta": float(theta)}


def digest_v1(model: nn.Module, tokenizer: Any) -> str:
    """SHA-256 over weights (name, dtype, shape, bytes), architecture and tokenizer.

    Args:
        model: the bare model, its weights in the type they were loaded in.
        tokenizer: its fast tokenizer, whose padding and truncation are left out: they are state
            of the last call.
    """
    digest, weights = hashlib.sha256(), model.state_dict()
    for name in sorted(weights):
        if is_pooler(name):
            continue
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    digest.update(canonical_json(architecture_of(model.config)).encode())
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    for state in ("padding", "truncation"):
        content.pop(state, None)
    digest.update(canonical_json(content).encode())
    return digest.hexdigest()
