"""Tiny GGUF files of real architectures, written with llama.cpp's own package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny import DEPTH, HIDDEN

SPECIALS = ("<|none|>", "<|end|>", "<|pad|>")
_BYTES = tuple(map(chr, (*range(33, 127), *range(161, 173), *range(174, 256))))
ALPHABET = (*_BYTES, *(chr(256 + place) for place in range(256 - len(_BYTES))))
"""GPT-2's characters for the 256 bytes; texts become one token a byte, but ``th``."""
TOKENS = (*SPECIALS, *ALPHABET, "th")
HEADS, GROUPS, INSIDE, LENGTH = 4, 2, 64, 128


def model_of(architecture: str) -> Any:
    """A random model of transformers whose weights are put into a file."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(TOKENS),
        hidden_size=HIDDEN,
        intermediate_size=INSIDE,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        num_key_value_heads=GROUPS,
        max_position_embeddings=LENGTH,
        head_dim=HIDDEN // HEADS,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModel.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, parameter.shape[-1] ** -0.5)
    return model


def write(
    path: Path,
    architecture: str = "llama",
    *,
    tokens: tuple[str, ...] = TOKENS,
    pad: bool = True,
    end: bool = True,
    tokenizer: bool = True,
    called: str | None = None,
    packed: bool = False,
) -> Path:
    """Write a tiny file.

    Args:
        path: where to.
        architecture: ``llama`` or ``qwen2``.
        tokens: the vocabulary that the file states.
        pad: state a padding token.
        end: state an end token.
        tokenizer: put a vocabulary in at all.
        called: another architecture to claim.
        packed: quantise matrices to Q8_0.
    """
    import gguf

    writer = gguf.GGUFWriter(str(path), called or architecture)
    writer.add_name("tiny")
    writer.add_context_length(LENGTH)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(DEPTH)
    writer.add_feed_forward_length(INSIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_key_length(HIDDEN // HEADS)
    writer.add_value_length(HIDDEN // HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(list(tokens))
        kinds = [gguf.TokenType.CONTROL] * len(SPECIALS)
        writer.add_token_types([*kinds, *[gguf.TokenType.NORMAL] * (len(tokens) - len(kinds))])
        writer.add_token_merges(["t h"])
        if end:
            writer.add_eos_token_id(1)
        if pad:
            writer.add_pad_token_id(2)
    names = gguf.get_tensor_name_map(
        {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}[architecture], DEPTH
    )
    for name, tensor in model_of(architecture).state_dict().items():
        stated = names.get_name(f"model.{name}", try_suffixes=(".weight", ".bias"))
        values = tensor.numpy().astype(np.float32)
        for part, heads in (("q_proj", HEADS), ("k_proj", GROUPS)):
            if architecture == "llama" and f"{part}.weight" in name:
                values = _permuted(values, heads)
        if packed and values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(stated, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(stated, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows as llama.cpp has Llama's: the two halves of a head's rotation interleaved."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)
