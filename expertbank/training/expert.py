"""Training one expert: TT-LoRA cores and a head, on a frozen backbone.

A pure function of the job and the backbone: no registry, no files, no global random state.
Source: TT-LoRA MoE, arXiv 2504.21190, section 3.1; unlike its code, the head is trained too
and the checkpoint is chosen on held-out *training* rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.adapters.hooks import bound
from expertbank.adapters.targets import find_targets
from expertbank.adapters.tt import Factors, TTAdapter, group_targets
from expertbank.config import AdapterConfig, FeatureSpec, TrainConfig
from expertbank.errors import TrainingError
from expertbank.models.backbone import Backbone
from expertbank.models.batches import (
    EVALUATION_BATCH,
    Batch,
    collate,
    plan_batches,
    shuffled_batches,
)
from expertbank.models.expert_file import ExpertFile
from expertbank.models.heads import head_input
from expertbank.models.routed import call_backbone
from expertbank.records import EncodedRow, ProgressCallback, TaskKind, no_progress
from expertbank.training.loop import Meter, optimise
from expertbank.training.probe import probe_head

PROBE_ROWS = 2000
"""Most training rows that the head's start is fitted on."""


@dataclass(frozen=True, slots=True)
class ExpertJob:
    """All that decides an expert, apart from the backbone; picklable.

    Attributes:
        task: name of the task.
        kind: kind of the task.
        labels: class names in head order.
        train: encoded training rows with targets.
        selection: encoded held-out training rows; they choose the checkpoint.
        adapter: shape of the adapter.
        config: how to train.
        spec: the bank's feature spec.
    """

    task: str
    kind: TaskKind
    labels: tuple[str, ...]
    train: tuple[EncodedRow, ...]
    selection: tuple[EncodedRow, ...]
    adapter: AdapterConfig
    config: TrainConfig
    spec: FeatureSpec


@dataclass(frozen=True, slots=True)
class TrainedExpert:
    """What training gives.

    Attributes:
        file: the frozen expert.
        adapter_params: numbers in the cores.
        head_params: numbers in the head.
        best_epoch: epoch of the kept checkpoint, from 1.
        selection_accuracy: its accuracy on the held-out training rows.
        seconds: time spent.
        tokens: real tokens trained on.
    """

    file: ExpertFile
    adapter_params: int
    head_params: int
    best_epoch: int
    selection_accuracy: float
    seconds: float
    tokens: int


class _Student(nn.Module):
    """Cores and head being trained, bound to the backbone while they are."""

    def __init__(self, job: ExpertJob, backbone: Backbone, generator: torch.Generator) -> None:
        super().__init__()
        targets = find_targets(
            backbone.model, backbone.family, job.spec.route_layer, job.adapter.projections
        )
        groups = group_targets(targets, job.adapter.tt_rank)
        self.backbone = (backbone,)  # in a tuple, so that it is no submodule
        self.adapter = TTAdapter.fresh(groups, job.adapter.alpha, generator)
        self.head_weight = nn.Parameter(torch.zeros(len(job.labels), backbone.hidden_size))
        self.head_bias = nn.Parameter(torch.zeros(len(job.labels)))
        self.to(backbone.device)
        self.factors: Factors = {}

    @property
    def paths(self) -> list[str]:
        return [path for group in self.adapter.groups for path in group.paths]

    def collapse(self) -> None:
        """Contract the cores once; every layer of the step reads the result."""
        dtype = next(self.backbone[0].model.parameters()).dtype
        self.factors = {
            path: (a.to(dtype), b.to(dtype)) for path, (a, b) in self.adapter.collapse().items()
        }

    def pooled(self, batch: Batch) -> Tensor:
        """``[rows, hidden]`` what the head reads, with the factors of the last ``collapse``."""
        backbone = self.backbone[0]
        last = call_backbone(backbone, batch)
        return head_input(last, batch.attention_mask, backbone.family.pooling)

    def logits(self, batch: Batch) -> Tensor:
        """``[rows, classes]`` in float32."""
        return self.pooled(batch) @ self.head_weight.T + self.head_bias

    def tensors(self) -> dict[str, Tensor]:
        head = {"head.weight": self.head_weight, "head.bias": self.head_bias}
        return {
            **self.adapter.to_tensors(),
            **{name: tensor.detach().cpu().clone() for name, tensor in head.items()},
        }


def train_expert(
    job: ExpertJob, backbone: Backbone, progress: ProgressCallback = no_progress
) -> TrainedExpert:
    """Train one expert and keep its best checkpoint.

    The same job on the same machine, threads and library versions gives the same bytes.

    Raises:
        TrainingError: the loss stopped being a number.
    """
    config = job.config
    generator = torch.Generator().manual_seed(config.seed)
    student = _Student(job, backbone, generator)
    plans = [
        shuffled_batches(job.train, config.batch_size, generator) for _ in range(config.epochs)
    ]
    best: tuple[float, float, int, dict[str, Tensor]] | None = None

    def step(positions: Sequence[int]) -> tuple[Tensor, int, int]:
        batch = _collated(job.train, positions, backbone)
        student.collapse()
        loss = F.cross_entropy(student.logits(batch), batch.targets.long())
        return loss, len(positions), batch.tokens

    def keep_best(epoch: int) -> None:
        nonlocal best
        accuracy, loss = _measure(student, job.selection)
        if not math.isfinite(loss):  # the last step of an epoch has no next loss to show it
            raise TrainingError(
                f"the held-out loss became {loss} after epoch {epoch + 1}; nothing was stored. "
                "Try a lower learning rate (--lr) or a smaller alpha (--alpha)"
            )
        if best is None or (accuracy, -loss) > (best[0], -best[1]):
            best = (accuracy, loss, epoch, student.tensors())

    with bound(backbone.model, lambda: student.factors, student.paths):
        started = time.monotonic()
        _start_head(student, job, progress)
        meter = Meter(f"training {job.task}", len(job.train) * config.epochs, progress)
        optimise(
            [
                (student.adapter.parameters(), config.lr),
                ([student.head_weight, student.head_bias], config.head_lr),
            ],
            [[lambda p=p: step(p) for p in plan] for plan in plans],  # type: ignore[misc]
            weight_decay=config.weight_decay,
            warmup=config.warmup,
            meter=meter,
            after_epoch=keep_best,
        )
    assert best is not None
    accuracy, _, epoch, tensors = best
    file = ExpertFile(
        job.task,
        job.kind,
        job.labels,
        student.adapter.groups,
        job.adapter.alpha,
        job.spec.digest,
        backbone.digest,
        tensors,
    )
    head = student.head_weight.numel() + student.head_bias.numel()
    return TrainedExpert(
        file,
        student.adapter.parameter_count,
        head,
        epoch + 1,
        accuracy,
        time.monotonic() - started,
        meter.tokens,
    )


@torch.no_grad()
def _start_head(student: _Student, job: ExpertJob, progress: ProgressCallback) -> None:
    """Fit the head to the backbone's own features: the update is still exactly zero."""
    student.collapse()
    rows = job.train[:PROBE_ROWS]
    meter = Meter(f"starting the head of {job.task}", len(rows), progress)
    features = torch.zeros(len(rows), student.head_weight.shape[1])
    targets = torch.zeros(len(rows), dtype=torch.long)
    for positions in plan_batches(rows, EVALUATION_BATCH):
        batch = _collated(rows, positions, student.backbone[0])
        features[list(positions)] = student.pooled(batch).cpu()
        targets[list(positions)] = batch.targets.long().cpu()
        meter.advance(len(positions), batch.tokens)
    if not bool(torch.isfinite(features).all()):
        raise TrainingError(
            f"the backbone's states for rows of {job.task} are not finite numbers; "
            "nothing was stored. Use another backbone or another dtype"
        )
    weight, bias = probe_head(features, targets, len(job.labels))
    student.head_weight.copy_(weight)
    student.head_bias.copy_(bias)


def _collated(rows: Sequence[EncodedRow], positions: Sequence[int], backbone: Backbone) -> Batch:
    return collate(rows, positions, backbone.tokenizer.pad_token_id, backbone.device)


@torch.no_grad()
def _measure(student: _Student, rows: Sequence[EncodedRow]) -> tuple[float, float]:
    """Accuracy and mean loss of the student as it stands."""
    student.collapse()
    right, loss = 0, 0.0
    for positions in plan_batches(rows, EVALUATION_BATCH):
        batch = _collated(rows, positions, student.backbone[0])
        logits, targets = student.logits(batch), batch.targets.long()
        right += int((logits.argmax(1) == targets).sum())
        loss += float(F.cross_entropy(logits, targets, reduction="sum"))
    return right / len(rows), loss / len(rows)
