"""Proof that an adapter that was written takes effect where other programs will load it.

Names are all that joins an adapter's factors to a model, and whoever loads them with names that
match nothing mostly says nothing. So what the written files hold is put into the model in which it
will be looked for, and what that then computes is held against the bank's own pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from expertbank.adapters import hooks
from expertbank.adapters.slots import Factors
from expertbank.backbones.batches import Batch, collate
from expertbank.backbones.causal import Around
from expertbank.backbones.forks import computing
from expertbank.backbones.running import call_backbone
from expertbank.data import encode_rows
from expertbank.errors import IntegrityError
from expertbank.kinds import KINDS
from expertbank.models.routed import RoutedModel
from expertbank.plain import plain
from expertbank.records import ExpertRecord
from expertbank.workflows.shipping.export import PROBES


@dataclass(frozen=True, slots=True)
class Effect:
    """What an exported adapter does to the last hidden states of a few texts.

    All differences are the largest of any state, as a share of the largest state.

    Attributes:
        expert: the expert.
        model: the class that the files were put into.
        effect: how far the adapted states are from the bare model's.
        error: how far they are from the bank's own.
        tolerance: the most that ``error`` may be: the same sums are added in another order.
    """

    expert: str
    model: str
    effect: float
    error: float
    tolerance: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        found: dict[str, Any] = plain(self)
        return found


@computing()
@torch.no_grad()
def effect_of(
    factors: Factors,
    around: Around,
    ours: RoutedModel,
    expert: ExpertRecord,
    max_length: int,
) -> Effect:
    """Put a written adapter into ``around`` as its readers would, run it, and compare.

    Args:
        factors: what its file adds to the modules of ``around``.
        around: the model that readers load.
        ours: the bank's pass.
        expert: the expert that was written.
        max_length: the bank's length of sequences.

    Raises:
        IntegrityError: nothing changes, or something else comes out than with the bank.
    """
    batch = _probes(ours, expert, max_length)
    real = batch.attention_mask.bool()
    device = around.backbone.device
    written = {path: (a.to(device), b.to(device)) for path, (a, b) in factors.items()}
    bare = call_backbone(around.backbone, batch)[real].float()
    with hooks.bound(around.model, lambda: written, list(written)):
        found = call_backbone(around.backbone, batch)[real].float()
    stack = ours.stack([expert.digest])
    updates = ours.updates(stack, [0] * len(batch.input_ids))
    with hooks.applied(updates) as added:
        wanted = call_backbone(ours.backbone, batch)[real].float()
    hooks.require_added(updates, added)
    largest = wanted.abs().max().clamp_min(1e-6)
    dtype = getattr(torch, ours.backbone.dtype)
    told = Effect(
        expert.id,
        around.name,
        float((found - bare).abs().max() / largest),
        float((found - wanted).abs().max() / largest),
        max(1e-4, 4 * torch.finfo(dtype).eps),
    )
    if torch.equal(found, bare) and not torch.equal(wanted, bare):
        raise IntegrityError(
            f"the adapter written for {expert.id} changes nothing of {around.name}; nothing was "
            "published"
        )
    if not told.error <= told.tolerance:
        raise IntegrityError(
            f"the adapter written for {expert.id} gives other states in {around.name} than in the "
            f"bank: they differ by {told.error:.2g} of the largest, {told.tolerance:.2g} is "
            "allowed; nothing was published"
        )
    return told


def _probes(ours: RoutedModel, expert: ExpertRecord, max_length: int) -> Batch:
    kind = KINDS.get(expert.kind)
    backbone = ours.backbone
    rows = [row for row in PROBES if row.shape in kind.shapes]
    encoded = encode_rows(rows, backbone.tokenizer, kind, expert.labels, max_length)
    pad = backbone.tokenizer.pad_token_id
    return collate(encoded, range(len(encoded)), pad, backbone.device)
