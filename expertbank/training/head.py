"""Training a head alone, on the states of a backbone whose adapter is frozen."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from expertbank.adapters.hooks import bound
from expertbank.adapters.slots import Factors
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import (
    EVALUATION_BATCH,
    collate,
    plan_batches,
    shuffled_batches,
)
from expertbank.backbones.forks import computing
from expertbank.backbones.running import call_backbone
from expertbank.errors import TrainingError
from expertbank.kinds import KINDS
from expertbank.models.heads import head_input, head_width
from expertbank.records import EncodedRow, HeadPooling, ProgressCallback, no_progress
from expertbank.training.checkpoint import Best
from expertbank.training.held_out import HeldOut, fruitless
from expertbank.training.job import ExpertJob
from expertbank.training.loop import Meter, optimise


@dataclass(frozen=True, slots=True)
class FittedHead:
    """A head that was trained alone.

    Attributes:
        tensors: as in an expert's file, ``head.`` before each name.
        epochs: how many were trained until the end or until patience was spent.
        best_epoch: epoch of the kept head, from 1; 0 where its start was best.
        score: its score on the held-out training rows, as the task's kind has it.
        seconds: time spent.
        tokens: real tokens that the backbone read.
    """

    tensors: dict[str, Tensor]
    epochs: int
    best_epoch: int
    score: float
    seconds: float
    tokens: int


@computing()
def fit_head(
    job: ExpertJob,
    factors: Factors,
    pooling: HeadPooling,
    backbone: Backbone,
    progress: ProgressCallback = no_progress,
) -> FittedHead:
    """Train a head on the training rows and keep what is best on those held out.

    The backbone runs once over every row; the head then learns from the states alone.

    Args:
        job: rows, labels and how to train; its adapter is not asked for.
        factors: the frozen adapter, by the backbone's paths.
        pooling: what the head reads.
        backbone: the frozen model; it stays untouched.
        progress: told as work goes on.

    Raises:
        TrainingError: the loss stopped being a number.
    """
    started, config, kind = time.monotonic(), job.config, KINDS.get(job.kind)
    generator = torch.Generator().manual_seed(config.seed)
    rows = (*job.train, *job.selection)
    meter = Meter(f"reading the rows of {job.task}", len(rows), progress)
    states, targets = _states(rows, factors, pooling, backbone, meter)
    answers = [row.target for row in job.train if row.target is not None]
    objective = kind.objective(job.labels, answers, balance=config.balance)
    outputs = kind.outputs(job.labels)
    width = head_width(backbone.output_size, pooling)
    weight = torch.zeros(outputs, width, requires_grad=True)
    bias = torch.zeros(outputs, requires_grad=True)

    def logits(positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        own, row_of = _together(states, positions)
        return objective.logits(own @ weight.T + bias, row_of), targets[list(positions)]

    def step(positions: Sequence[int]) -> tuple[float, int, int]:
        loss = objective.loss(*logits(positions))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        return float(loss.detach()), len(positions), 0

    held_out = range(len(job.train), len(rows))
    best: Best | None = None
    curve: list[HeldOut] = []
    epochs = 0

    @torch.no_grad()
    def keep_best(epoch: int) -> bool:
        nonlocal best, epochs
        epochs = epoch + 1
        found, wanted = logits(held_out)
        now = HeldOut(objective.score(found, wanted), float(objective.loss(found, wanted)))
        if not math.isfinite(now.loss):
            raise TrainingError(
                f"the held-out loss became {now.loss}; nothing was stored. Try a lower --head-lr"
            )
        curve.append(now)
        if best is None or now.better_than(best.held_out):
            last = objective.finish(weight, bias)
            tensors = {
                name: one.detach().clone()
                for name, one in zip(("head.weight", "head.bias"), last, strict=True)
            }
            own = objective.thresholds(found, wanted) if kind.has_thresholds else None
            if own is not None:
                tensors["head.threshold"] = own
            best = Best(now, epoch, tensors)
        return fruitless(curve) >= config.patience

    first = list(range(len(job.train)))
    with torch.no_grad():
        features, row_of = _together(states, first)
        start = objective.start(features, row_of, targets[first])
        if start is not None:
            weight.copy_(start[0])
            bias.copy_(start[1])
    keep_best(-1)
    plans = [
        shuffled_batches(job.train, config.batch_size, generator) for _ in range(config.epochs)
    ]
    optimise(
        [([weight, bias], config.head_lr)],
        [[partial(step, positions) for positions in plan] for plan in plans],
        weight_decay=config.weight_decay,
        warmup=config.warmup,
        meter=Meter(f"fitting the head of {job.task}", len(job.train) * config.epochs, progress),
        after_epoch=keep_best,
    )
    assert best is not None
    spent = time.monotonic() - started
    return FittedHead(
        dict(best.tensors), epochs, best.epoch + 1, best.held_out.score, spent, meter.tokens
    )


@torch.no_grad()
def _states(
    rows: Sequence[EncodedRow],
    factors: Factors,
    pooling: HeadPooling,
    backbone: Backbone,
    meter: Meter,
) -> tuple[list[Tensor], Tensor]:
    """Per row what the head reads of its sequences ``[sequences, hidden]``, and all targets."""
    view = backbone.view()
    device, dtype = view.device, next(view.model.parameters()).dtype
    there = {path: (a.to(device, dtype), b.to(device, dtype)) for path, (a, b) in factors.items()}
    found: list[Tensor] = [torch.empty(0)] * len(rows)
    targets: list[Tensor] = [torch.empty(0)] * len(rows)
    with bound(view.model, lambda: there, list(there)):
        for positions in plan_batches(rows, EVALUATION_BATCH):
            batch = collate(rows, positions, view.tokenizer.pad_token_id, device)
            pooled = head_input(call_backbone(view, batch), batch, pooling).cpu()
            row_of = batch.row_of.cpu()
            for place, position in enumerate(positions):
                found[position] = pooled[row_of == place]
                targets[position] = batch.targets[place].cpu()
            meter.advance(len(positions), batch.tokens)
    if not all(bool(torch.isfinite(one).all()) for one in found):
        raise TrainingError(
            "the backbone's states with this adapter are not finite numbers; nothing was stored"
        )
    return found, torch.stack(targets)


def _together(states: Sequence[Tensor], positions: Sequence[int]) -> tuple[Tensor, Tensor]:
    """What the head reads of some rows, and which of them each sequence belongs to."""
    own = [states[position] for position in positions]
    counts = torch.tensor([len(one) for one in own])
    return torch.cat(own), torch.arange(len(own)).repeat_interleave(counts)
