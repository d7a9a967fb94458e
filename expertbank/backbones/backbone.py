"""The frozen backbone: found, loaded, checked."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from expertbank.backbones import probe
from expertbank.backbones.families import Family, listed
from expertbank.backbones.hub import fetch
from expertbank.backbones.identity import Identity, fingerprint, identity_of, read_config
from expertbank.backbones.identity_v1 import digest_v1
from expertbank.backbones.mistaken import require_backbone_files
from expertbank.backbones.reading import read, require_readable
from expertbank.backbones.recognise import family_of, layers_of
from expertbank.config import DEFAULT_BACKBONE, SHORTEST, FeatureSpec
from expertbank.errors import InputError, IntegrityError, NoBackboneError
from expertbank.records import BackboneRecord
from expertbank.references import Place

MAX_FEATURE_DIMENSION = 4096
"""Widest default routing feature: the ridge gate's Gram matrix is its square."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """A frozen pretrained model, ready to run.

    Attributes:
        model: bare model in eval mode, no parameter requires a gradient.
        tokenizer: its fast tokenizer.
        family: where its layers and projections are.
        reference: what the user named: a Hub name, a folder or a GGUF file.
        place: where its files are, and of which of the Hub's commits.
        identity: what makes it the backbone it is.
        digest: the name it goes by: its identity's digest, or the one that a bank or bundle
            which it belongs to recorded.
    """

    model: nn.Module
    tokenizer: Any
    family: Family
    reference: str
    place: Place
    identity: Identity
    digest: str

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
    def dtype(self) -> str:
        """Type of its weights while it runs, such as ``float32``."""
        return str(next(self.model.parameters()).dtype).removeprefix("torch.")

    @property
    def vocabulary(self) -> int:
        """Tokens it has an embedding for, numbered from 0."""
        model: Any = self.model
        return int(model.get_input_embeddings().weight.shape[0])

    @property
    def longest_sequence(self) -> int | None:
        """Most tokens that it can read, as its table of positions and its configuration say.

        ``None`` where neither sets a bound. Asking runs the model on a few tokens.
        """
        config: Any = self.model.config
        stated = getattr(config, "max_position_embeddings", None)
        table = probe.positions(self.model).most
        if stated is not None and table is None:
            stated = int(stated) - self.family.spent_positions
        return min((int(one) for one in (stated, table) if one is not None), default=None)

    def default_length(self, most: int) -> int:
        """Length of sequences of a user who names none: what model and tokenizer are made for.

        Args:
            most: and no more than this.
        """
        # A length below what a bank can have says nothing; without one it is astronomic.
        own = int(getattr(self.tokenizer, "model_max_length", 0) or 0)
        bounds = (self.longest_sequence, own if own >= SHORTEST else None)
        return min(bound for bound in (most, *bounds) if bound is not None)

    def named_as(self, record: BackboneRecord) -> Backbone:
        """This backbone under the digest of ``record``, if it is the one recorded there.

        A digest of expertbank 0.1 is worked out from the weights as they are now: those of a
        backbone that does not run in the type it is stored in have another.
        """
        known = _is_recorded(record, self.identity, self.model, self.tokenizer)
        return replace(self, digest=record.digest if known else self.identity.digest)

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
        if depth == 1 and layer != 0:
            raise InputError(
                f"this backbone has one layer, so there is no trunk below a branch, and the route "
                f"layer cannot be {layer}; --route-layer 0 runs it twice instead, as the paper does"
            )
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
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str = "float32",
    record: BackboneRecord | None = None,
    known: Callable[[Path], Identity | None] | None = None,
) -> Backbone:
    """Load, freeze and identify a backbone, from safetensors files or one GGUF file, unpacked.

    Args:
        reference: a folder, a GGUF file, or a Hub name, with or without ``@revision``; a Hub name
            that an installed package carries is read from the package.
        revision: the commit of a Hub name that is wanted.
        device: where to run, such as ``cpu`` or ``cuda:1``; default the first CUDA device, else
            Apple's ``mps``, else the CPU.
        dtype: type of the weights while running.
        record: what a bank or bundle recorded of its backbone. Its digest is taken over if this
            is the backbone; whether it is, the caller sees by that.
        known: optional cache: folder to the identity worked out earlier from the same files.

    Raises:
        InputError: no such device here.
        SourceUnavailableError: the Hub could not be reached or has no such model or commit, or a
            file may not be read.
        IntegrityError: the files lack weights that the model needs, or changed meanwhile.
        UnsupportedModelError: a model without layers that adapters could act on, or a GGUF file
            of an architecture that is not read.
    """
    target = _device(device)
    if target.type == "cuda":
        # What cuBLAS must know before its first product to give the same bits in training.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    place = fetch(reference, revision)
    require_backbone_files(place.path, reference)
    before = fingerprint(place.path)
    require_readable((state[1] for state in before), reference)
    if place.path.is_dir():
        # A family from outside may bring the model's class, which must be there to be loaded.
        listed(str(read_config(place.path).get("model_type")))
    try:
        model, tokenizer = read(place.path, reference)
    except NoBackboneError as error:
        if record is None or record.reference != reference:
            raise
        raise IntegrityError(str(error)) from error  # it was one when the bank was made
    _own(model)
    model.eval().requires_grad_(False)
    family = family_of(str(model.config.model_type), model)
    identity = known(place.path) if known else None
    if identity is None:
        identity = identity_of(place.path)
    if fingerprint(place.path) != before:
        raise IntegrityError(f"the files of backbone {reference!r} changed while they were read")
    digest = identity.digest
    if record is not None and _is_recorded(record, identity, model, tokenizer):
        digest = record.digest
    model.to(device=target, dtype=getattr(torch, dtype))
    return Backbone(model, tokenizer, family, reference, place, identity, digest)


def _is_recorded(
    record: BackboneRecord, identity: Identity, model: nn.Module, tokenizer: Any
) -> bool:
    if identity.answers_to(record.identity or record.digest, record.architecture):
        return True
    # Only a bank of expertbank 0.1 names its backbone by something else than its identity.
    return record.identity != record.digest and digest_v1(model, tokenizer) == record.digest


@torch.no_grad()
def _own(model: nn.Module) -> None:
    """Copy the weights into memory of the process: as loaded, they are the file, mapped.

    Whoever writes into the file would change the model that runs.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


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
