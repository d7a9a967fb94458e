"""The other side of the benchmarks: LoRA through PEFT, trained the way the product trains.

Same rows, same batches in the same order, same head and head start, same optimiser, schedule,
clipping, attention and choice of the epoch on held-out training rows. Only what is added to the
projections differs. Expects rows of a classification task and a backbone whose projections are
not fused.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from expertbank.adapters.targets import find_targets
from expertbank.adapters.tt import TT, TTAdapter, group_targets
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import (
    EVALUATION_BATCH,
    Batch,
    collate,
    plan_batches,
    shuffled_batches,
)
from expertbank.backbones.running import call_backbone
from expertbank.kinds import KINDS
from expertbank.models.heads import head_input
from expertbank.records import EncodedRow, no_progress
from expertbank.training.expert import PROBE_ROWS, ExpertJob
from expertbank.training.loop import Meter, adamw, optimise
from expertbank.training.trunk import use_fast_attention

ROLES = ("query", "value")


@dataclass(frozen=True)
class LoraSettings:
    """What is peculiar to LoRA; everything else stands in the job.

    Attributes:
        lr: peak learning rate of the factors.
        rank: their rank.
        alpha: ``lora_alpha``; the update is multiplied by ``alpha / rank``.
        first_layer: lowest adapted layer; 0 is LoRA's usual full depth.
    """

    lr: float
    rank: int = 16
    alpha: float = 32.0
    first_layer: int = 0


@dataclass(frozen=True)
class TrainedLora:
    """A trained LoRA with its head, at its best epoch."""

    backbone: Backbone
    head_weight: Tensor
    head_bias: Tensor
    adapter_params: int
    selection_score: float
    selection_loss: float
    best_epoch: int
    seconds: float
    tokens: int


def train_lora(job: ExpertJob, backbone: Backbone, settings: LoraSettings) -> TrainedLora:
    """Train one LoRA and a head on the job's rows; the backbone stays untouched."""
    started = time.monotonic()
    config, own = job.config, backbone.view()
    use_fast_attention(own)
    plans = _plans(job, backbone)
    targets = find_targets(own.model, own.family, settings.first_layer, ROLES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        get_peft_model(
            own.model,
            LoraConfig(
                r=settings.rank,
                lora_alpha=settings.alpha,
                target_modules=[target.path for target in targets],
            ),
        )
    factors = [p for p in own.model.parameters() if p.requires_grad]
    kind = KINDS.get(job.kind)
    objective = kind.objective(job.labels, [r.target for r in job.train if r.target is not None])
    outputs = kind.outputs(job.labels)
    weight = nn.Parameter(torch.zeros(outputs, own.hidden_size, device=own.device))
    bias = nn.Parameter(torch.zeros(outputs, device=own.device))
    trained = [*factors, weight, bias]
    best: tuple[float, float, int, list[Tensor]] | None = None

    def batch_of(rows: Sequence[EncodedRow], positions: Sequence[int]) -> Batch:
        return collate(rows, positions, own.tokenizer.pad_token_id, own.device)

    def loss_of(batch: Batch) -> tuple[Tensor, Tensor]:
        logits = objective.logits(_pooled(own, batch) @ weight.T + bias, batch.row_of)
        return logits, objective.loss(logits, batch.targets)

    def gradient(positions: Sequence[int]) -> tuple[float, int]:
        batch = batch_of(job.train, positions)
        _, loss = loss_of(batch)
        loss.backward()
        return float(loss.detach()), batch.tokens

    @torch.no_grad()
    def keep_best(epoch: int) -> None:
        nonlocal best
        score, loss = 0.0, 0.0
        for positions in plan_batches(job.selection, EVALUATION_BATCH):
            batch = batch_of(job.selection, positions)
            logits, part = loss_of(batch)
            score += objective.score(logits, batch.targets) * len(positions)
            loss += float(part) * len(positions)
        score, loss = score / len(job.selection), loss / len(job.selection)
        if best is None or (score, -loss) > (best[0], -best[1]):
            best = score, loss, epoch + 1, [tensor.detach().clone() for tensor in trained]

    with torch.no_grad():  # the product's head start: the factors add nothing yet
        rows = job.train[:PROBE_ROWS]
        seen, aims = [], []
        for positions in plan_batches(rows, EVALUATION_BATCH):
            batch = batch_of(rows, positions)
            seen.append(_pooled(own, batch))
            aims.append(batch.targets)
        places = torch.arange(len(rows), device=own.device)
        first = objective.start(torch.cat(seen), places, torch.cat(aims))
        weight.copy_(first[0])
        bias.copy_(first[1])
    meter = Meter("LoRA", len(job.train) * config.epochs, no_progress)
    rates = [(factors, settings.lr), ([weight, bias], config.head_lr)]
    optimiser = adamw(rates, config.weight_decay)
    for step in optimise(optimiser, plans, gradient, warmup=config.warmup, meter=meter):
        if step.ends_epoch:
            keep_best(step.epoch)
    assert best is not None
    with torch.no_grad():
        for tensor, kept in zip(trained, best[3], strict=True):
            tensor.copy_(kept)
    return TrainedLora(
        own,
        weight.detach(),
        bias.detach(),
        sum(p.numel() for p in factors),
        *best[:3],
        time.monotonic() - started,
        meter.tokens,
    )


def _plans(job: ExpertJob, backbone: Backbone) -> list[list[tuple[int, ...]]]:
    """The batches of ``train_expert``, which draws its cores from the generator before them."""
    generator = torch.Generator().manual_seed(job.config.seed)
    roles = job.adapter.projections
    targets = find_targets(backbone.model, backbone.family, job.spec.route_layer, roles)
    groups = group_targets(targets, TT.settled(job.adapter).tt_rank)
    TTAdapter.fresh(groups, job.adapter.alpha, generator)
    return [
        shuffled_batches(job.train, job.config.batch_size, generator)
        for _ in range(job.config.epochs)
    ]


def _pooled(backbone: Backbone, batch: Batch) -> Tensor:
    last = call_backbone(backbone, batch)
    return head_input(last, batch, backbone.family.pooling)


@torch.no_grad()
def right_answers(
    backbone: Backbone, weight: Tensor, bias: Tensor, rows: Sequence[EncodedRow]
) -> list[int]:
    """For each row whether the answer is right, 1 or 0."""
    right = [0] * len(rows)
    for positions in plan_batches(rows, EVALUATION_BATCH):
        batch = collate(rows, positions, backbone.tokenizer.pad_token_id, backbone.device)
        chosen = (_pooled(backbone, batch) @ weight.T + bias).argmax(1)
        for position, same in zip(positions, (chosen == batch.targets).tolist(), strict=True):
            right[position] = int(same)
    return right
