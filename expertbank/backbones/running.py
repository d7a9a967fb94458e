"""One forward pass of the bare model, with what its family's own class takes."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import Batch


def call_backbone(backbone: Backbone, batch: Batch) -> Tensor:
    """Last hidden states ``[sequences, tokens, hidden]``."""
    states: Tensor = run_backbone(backbone, batch).last_hidden_state
    return states


def run_backbone(backbone: Backbone, batch: Batch, *, keep: bool = False) -> Any:
    """The model's output; with keys and values to go on from, if they are to be kept."""
    inputs: dict[str, Any] = {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
    }
    kind: Any = type(backbone.model)
    config: Any = backbone.model.config
    accepted = _accepted(kind)
    # GPT-2 takes token types too, but adds the embeddings of *words* 0 and 1 for them.
    if "token_type_ids" in accepted and getattr(config, "type_vocab_size", None):
        inputs["token_type_ids"] = batch.token_type_ids
    if "use_cache" in accepted:
        inputs["use_cache"] = keep
    if batch.left and "position_ids" in accepted:
        inputs["position_ids"] = (batch.attention_mask.cumsum(1) - 1).clamp_min(0)
    return backbone.model(**inputs)


def step_backbone(
    backbone: Backbone, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any
) -> Tensor:
    """Last hidden states ``[rows, hidden]`` of one more token of each row.

    Args:
        backbone: a decoder.
        ids: ``[rows]`` the tokens.
        mask: ``[rows, tokens]`` of all tokens, these included.
        positions: ``[rows]`` of the tokens, from 0.
        cache: of the passes before; these tokens' keys and values are added to it.
    """
    inputs: dict[str, Any] = {
        "input_ids": ids.unsqueeze(1),
        "attention_mask": mask,
        "past_key_values": cache,
        "use_cache": True,
    }
    kind: Any = type(backbone.model)
    if "position_ids" in _accepted(kind):
        inputs["position_ids"] = positions.unsqueeze(1)
    states: Tensor = backbone.model(**inputs).last_hidden_state
    return states[:, -1]


@lru_cache(maxsize=64)
def _accepted(model: type[nn.Module]) -> frozenset[str]:
    """Names that a model's forward pass takes; reading a signature costs as much as a layer."""
    return frozenset(inspect.signature(model.forward).parameters)
