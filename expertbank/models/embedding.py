"""What the bare backbone makes of whole rows: its last hidden states, pooled."""

from __future__ import annotations

import torch
from torch import Tensor

from expertbank.adapters import hooks
from expertbank.backbones import features
from expertbank.backbones.batches import Batch
from expertbank.backbones.forks import computing
from expertbank.backbones.running import call_backbone
from expertbank.models.routed import RoutedModel


@computing()
@torch.no_grad()
def embedding(model: RoutedModel, batch: Batch) -> Tensor:
    """Mean of the last hidden states over a row's tokens, without any expert.

    Rows that mean alike lie near each other by it, more than by routing features: those are of
    the trunk alone. A row with choices has the mean over its choices.

    Args:
        model: the one-pass model; its pool is not asked.
        batch: padded rows.

    Returns:
        ``[rows, hidden]`` float32.
    """
    with hooks.applied({}):
        last = call_backbone(model.backbone, batch)
    return features.mean_by_row(features.pool(last, batch.attention_mask, "mean"), batch.row_of)
