"""Training a head alone, on the states of a backbone whose adapter is frozen."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

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
from expertbank.kinds import KINDS, Kind, Objective
from expertbank.models.heads import head_input, head_width
from expertbank.records import EncodedRow, HeadPooling, ProgressCallback, no_progress
from expertbank.training.held_out import Course, HeldOut
from expertbank.training.job import ExpertJob
from expertbank.training.loop import Meter, adamw, optimise


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
    started, config = time.monotonic(), job.config
    generator = torch.Generator().manual_seed(config.seed)
    rows = (*job.train, *job.selection)
    train, held_out = range(len(job.train)), range(len(job.train), len(rows))
    reading = Meter(f"reading the rows of {job.task}", len(rows), progress)
    states, targets = _states(rows, factors, pooling, backbone, reading)
    kind = KINDS.get(job.kind)
    answers = [row.target for row in job.train if row.target is not None]
    objective = kind.objective(job.labels, answers, balance=config.balance)
    outputs, width = kind.outputs(job.labels), head_width(backbone.output_size, pooling)
    weight = torch.zeros(outputs, width, requires_grad=True)
    bias = torch.zeros(outputs, requires_grad=True)
    head = _Head(kind, objective, states, targets, weight, bias)
    head.start(train)
    course = Course(config.patience)
    course.add(*head.measured(held_out), -1)
    plans = [
        shuffled_batches(job.train, config.batch_size, generator) for _ in range(config.epochs)
    ]
    meter = Meter(f"fitting the head of {job.task}", len(job.train) * config.epochs, progress)
    optimiser = adamw([([head.weight, head.bias], config.head_lr)], config.weight_decay)
    for step in optimise(optimiser, plans, head.gradient, warmup=config.warmup, meter=meter):
        if step.ends_epoch:
            course.add(*head.measured(held_out), step.epoch)
            if course.over:
                break
    best, epochs = course.best, len(course.curve) - 1
    assert best is not None
    spent = time.monotonic() - started
    return FittedHead(
        dict(best.tensors), epochs, best.epoch + 1, best.held_out.score, spent, reading.tokens
    )


@dataclass(frozen=True, slots=True)
class _Head:
    """A head that learns from states.

    Attributes:
        kind: the task's.
        objective: what it is trained for.
        states: per row what it reads of its sequences ``[sequences, width]``.
        targets: ``[rows]`` or ``[rows, labels]``.
        weight: ``[outputs, width]``.
        bias: ``[outputs]``.
    """

    kind: Kind
    objective: Objective
    states: Sequence[Tensor]
    targets: Tensor
    weight: Tensor
    bias: Tensor

    @torch.no_grad()
    def start(self, positions: Sequence[int]) -> None:
        """Begin as the objective does."""
        first = self.objective.start(*self._read(positions), self.targets[list(positions)])
        if first is not None:
            self.weight.copy_(first[0])
            self.bias.copy_(first[1])

    def gradient(self, positions: Sequence[int]) -> tuple[float, int]:
        """Add that of the loss; no tokens are read."""
        loss = self.objective.loss(*self._answers(positions))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        return float(loss.detach()), 0

    @torch.no_grad()
    def measured(self, positions: Sequence[int]) -> tuple[HeldOut, dict[str, Tensor]]:
        """How it stands on rows, and its tensors as they are stored."""
        logits, targets = self._answers(positions)
        now = HeldOut(
            self.objective.score(logits, targets), float(self.objective.loss(logits, targets))
        )
        if not math.isfinite(now.loss):
            raise TrainingError(
                f"the held-out loss became {now.loss}; nothing was stored. Try a lower --head-lr"
            )
        weight, bias = self.objective.finish(self.weight, self.bias)
        found = {"head.weight": weight.detach().clone(), "head.bias": bias.detach().clone()}
        thresholds = (
            self.objective.thresholds(logits, targets) if self.kind.has_thresholds else None
        )
        return now, found if thresholds is None else {**found, "head.threshold": thresholds}

    def _answers(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logits and targets of rows."""
        own, row_of = self._read(positions)
        outputs = own @ self.weight.T + self.bias
        return self.objective.logits(outputs, row_of), self.targets[list(positions)]

    def _read(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What it reads of some rows, and which of them each sequence belongs to."""
        own = [self.states[position] for position in positions]
        counts = torch.tensor([len(one) for one in own])
        return torch.cat(own), torch.arange(len(own)).repeat_interleave(counts)


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
