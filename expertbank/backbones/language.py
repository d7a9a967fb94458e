"""A decoder's language-model head: from last hidden states to scores of the next token.

A bank's backbone is the bare model. Its head is the rest of the class that transformers has around
it, so whatever a family does there (scales, caps, adds) is done. Where the head's weights are the
embedding's, nothing is loaded; else they are read from the backbone's files when first needed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from expertbank.backbones import probe, reading
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.causal import Around, as_loaded_elsewhere
from expertbank.errors import UnsupportedModelError

_FAR = 1e-3
"""How far from the whole model's the head's scores may lie, beside the largest."""


@dataclass(frozen=True, slots=True)
class LanguageHead:
    """Scores of the next token.

    Attributes:
        outer: the language model, in which the bare model hands states through.
        digest: SHA-256 of its own weights; of a tied head that of the word ``tied``.
    """

    outer: nn.Module
    digest: str

    def scores(self, states: Tensor) -> Tensor:
        """``[rows, vocabulary]`` float32 logits from last hidden states ``[rows, hidden]``."""
        # Of rows that lie apart torch's product in bfloat16 takes a hundred times as long on a CPU.
        output: Any = self.outer(inputs_embeds=states.contiguous().unsqueeze(1), use_cache=False)
        found: Tensor = output.logits
        return found[:, 0].float()


_FOUND: WeakKeyDictionary[nn.Module, LanguageHead] = WeakKeyDictionary()
_LOCK = Lock()


def language_head(backbone: Backbone) -> LanguageHead:
    """The head of a backbone, made on the first call with it.

    Raises:
        UnsupportedModelError: the backbone cannot write: it is an encoder, or its files hold no
            head.
    """
    with _LOCK:
        found = _FOUND.get(backbone.model)
        if found is None:
            found = _FOUND[backbone.model] = _head(backbone)
        return found


@torch.no_grad()
def _head(backbone: Backbone) -> LanguageHead:
    around = as_loaded_elsewhere(backbone)
    if not around.is_causal:
        why = (
            "transformers has no language model around it"
            if probe.is_causal(backbone.model)
            else "each of its tokens sees those after it, as an encoder's do"
        )
        raise UnsupportedModelError(f"{_named(backbone)} {why}; use a decoder such as SmolLM2")
    own = _weights(backbone, around)
    outer: Any = around.model
    inner = outer.get_submodule(around.inner)
    ids = probe.tokens(inner)
    expected = outer(input_ids=ids, use_cache=False).logits[:, -1].float()
    states = probe.last_states(inner, ids)[:, -1]
    projection = outer.get_output_embeddings()
    outer.set_submodule(around.inner, _Handed())
    head = LanguageHead(outer, _digest(own))
    try:
        found = head.scores(states)
    except AttributeError:  # its class looks inside the bare model
        head = LanguageHead(_Plain(projection), head.digest)
        found = head.scores(states)
    room = max(_FAR, 16 * torch.finfo(states.dtype).eps)
    if not bool((found - expected).abs().max() <= room * expected.abs().max()):
        raise UnsupportedModelError(
            f"{_named(backbone)} {around.name} makes other scores of the last hidden states than "
            "a head alone does"
        )
    return head


def _weights(backbone: Backbone, around: Around) -> dict[str, Tensor]:
    """Give the head its weights; those that are not the bare model's, by name."""
    outer: Any = around.model
    embedding = outer.get_submodule(around.inner).get_input_embeddings()
    if getattr(outer.config, "tie_word_embeddings", False):
        outer.get_output_embeddings().weight = embedding.weight
    lacking = [name for name, one in outer.named_parameters() if one.is_meta]
    lacking += [name for name, one in outer.named_buffers() if one.is_meta]
    if not lacking:
        return {}
    found = reading.read_language_model(backbone.place.path, backbone.reference, lacking)
    absent = sorted(set(lacking) - set(found))
    if absent:
        raise UnsupportedModelError(
            f"{_named(backbone)} its files hold no language-model head ({absent[0]}), only the "
            "bare model; give the files of the whole language model"
        )
    for name, tensor in found.items():
        path, _, last = name.rpartition(".")
        placed = tensor.to(backbone.device, embedding.weight.dtype)
        setattr(outer.get_submodule(path), last, nn.Parameter(placed, requires_grad=False))
    return found


def _digest(own: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(b"" if own else b"tied")
    for name, tensor in sorted(own.items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _named(backbone: Backbone) -> str:
    return f"backbone {backbone.reference!r} cannot write answers:"


class _Handed(nn.Module):
    """In the place of the bare model: its last hidden states are what it is given."""

    def forward(self, *args: Any, inputs_embeds: Tensor, **kwargs: Any) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=inputs_embeds)


class _Plain(nn.Module):
    """A head of one projection, called as the class around it would be."""

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, inputs_embeds: Tensor, use_cache: bool) -> Any:
        return _Scored(self.projection(inputs_embeds))


@dataclass(frozen=True, slots=True)
class _Scored:
    """What ``LanguageHead.scores`` reads."""

    logits: Tensor
