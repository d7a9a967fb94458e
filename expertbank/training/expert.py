"""Training one expert: TT-LoRA cores and a head, on a frozen backbone.

A pure function of the job and the backbone: no registry, no files, no global random state.
Source: TT-LoRA MoE, arXiv 2504.21190, section 3.1; unlike its code, the head is trained too
and the checkpoint is chosen on held-out *training* rows.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor, nn

from expertbank.adapters.hooks import bound
from expertbank.adapters.targets import find_targets, named_targets
from expertbank.adapters.tt import Factors, TTAdapter, group_targets
from expertbank.config import AdapterConfig, FeatureSpec, TrainConfig, canonical_json
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
from expertbank.models.heads import head_input, head_outputs
from expertbank.models.routed import call_backbone
from expertbank.records import EncodedRow, ProgressCallback, TaskKind, no_progress
from expertbank.training.checkpoint import Best, Checkpoint, optimiser_state, restore
from expertbank.training.loop import Meter, optimise
from expertbank.training.objectives import objective_of

KEEP_SECONDS = 30.0
"""How much work an interruption may cost, at most."""

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
        selection_score: its accuracy on the held-out training rows; for regression, minus the
            squared error in units of the training values' variance.
        seconds: time spent, also before interruptions.
        tokens: real tokens trained on.
    """

    file: ExpertFile
    adapter_params: int
    head_params: int
    best_epoch: int
    selection_score: float
    seconds: float
    tokens: int


class _Student(nn.Module):
    """Cores and head being trained, bound to the backbone while they are."""

    def __init__(self, job: ExpertJob, backbone: Backbone, generator: torch.Generator) -> None:
        super().__init__()
        where = backbone.model, backbone.family, job.spec.route_layer
        if job.adapter.modules:
            targets = named_targets(*where, job.adapter.modules)
        else:
            targets = find_targets(*where, job.adapter.projections)
        groups = group_targets(targets, job.adapter.tt_rank)
        self.backbone = (backbone,)  # in a tuple, so that it is no submodule
        self.adapter = TTAdapter.fresh(groups, job.adapter.alpha, generator)
        self.objective = objective_of(job.kind, job.labels, job.train, balance=job.config.balance)
        outputs = head_outputs(job.kind, job.labels)
        self.head_weight = nn.Parameter(torch.zeros(outputs, backbone.output_size))
        self.head_bias = nn.Parameter(torch.zeros(outputs))
        self.to(backbone.device)
        wish = job.adapter.pooling
        self.pooling = backbone.family.pooling if wish == "auto" else wish
        self.factors: Factors = {}

    @property
    def paths(self) -> list[str]:
        return list(self.adapter.paths)

    def collapse(self) -> None:
        """Contract the cores once; every layer of the step reads the result."""
        dtype = next(self.backbone[0].model.parameters()).dtype
        self.factors = {
            path: (a.to(dtype), b.to(dtype)) for path, (a, b) in self.adapter.collapse().items()
        }

    def pooled(self, batch: Batch) -> Tensor:
        """``[sequences, hidden]`` what the head reads, with the last ``collapse``'s factors."""
        backbone = self.backbone[0]
        last = call_backbone(backbone, batch)
        return head_input(last, batch.attention_mask, self.pooling)

    def logits(self, batch: Batch) -> Tensor:
        """``[rows, classes]`` in float32."""
        outputs = self.pooled(batch) @ self.head_weight.T + self.head_bias
        return self.objective.logits(outputs, batch.row_of)

    def tensors(self) -> dict[str, Tensor]:
        weight, bias = self.objective.finish(self.head_weight, self.head_bias)
        head = {"head.weight": weight, "head.bias": bias}
        return {
            **self.adapter.to_tensors(),
            **{name: tensor.detach().cpu().clone() for name, tensor in head.items()},
        }


def train_expert(
    job: ExpertJob,
    backbone: Backbone,
    progress: ProgressCallback = no_progress,
    *,
    resume: bytes | None = None,
    keep: Callable[[bytes], None] | None = None,
) -> TrainedExpert:
    """Train one expert and keep its best checkpoint.

    The same job on the same machine, threads and library versions gives the same bytes, also
    when it was interrupted and resumed.

    Args:
        job: what to train.
        backbone: the frozen model.
        progress: called as training goes on.
        resume: the state that ``keep`` was last given by an interrupted run of the same job.
        keep: takes the state every epoch and every ``KEEP_SECONDS``.

    Raises:
        TrainingError: the loss stopped being a number.
        InputError: ``resume`` is of another job.
    """
    started = time.monotonic()
    config, identity = job.config, job_digest(job, backbone)
    before = Checkpoint.from_bytes(resume, "checkpoint", identity) if resume else None
    generator = torch.Generator().manual_seed(config.seed)
    student = _Student(job, backbone, generator)
    plans = [
        shuffled_batches(job.train, config.batch_size, generator) for _ in range(config.epochs)
    ]
    best = before.best if before else None
    kept_at = started
    spent_before = before.seconds if before else 0.0

    def step(positions: Sequence[int]) -> tuple[Tensor, int, int]:
        batch = _collated(job.train, positions, backbone)
        student.collapse()
        loss = student.objective.loss(student.logits(batch), batch.targets)
        return loss, len(positions), batch.tokens

    def keep_best(epoch: int) -> bool:
        nonlocal best, kept_at
        score, loss = _measure(student, job.selection)
        if not math.isfinite(loss):  # the last step of an epoch has no next loss to show it
            raise TrainingError(
                f"the held-out loss became {loss} after epoch {epoch + 1}; nothing was stored. "
                "Try a lower learning rate (--lr) or a smaller alpha (--alpha)"
            )
        if best is None or (score, -loss) > (best.score, -best.loss):
            best = Best(score, loss, epoch, student.tensors())
        kept_at = -math.inf
        return epoch - best.epoch >= config.patience

    def keep_state(optimiser: torch.optim.Optimizer, steps: int) -> None:
        nonlocal kept_at
        if keep is None or time.monotonic() - kept_at < KEEP_SECONDS:
            return
        state = optimiser_state(optimiser, dict(student.named_parameters()))
        spent = spent_before + time.monotonic() - started
        keep(Checkpoint(identity, steps, meter.tokens, spent, state, best).to_bytes())
        kept_at = time.monotonic()

    def start(optimiser: torch.optim.Optimizer) -> int:
        if before is None:
            return 0
        restore(optimiser, dict(student.named_parameters()), before.state)
        return before.step

    with bound(backbone.model, lambda: student.factors, student.paths):
        if before is None:
            _start_head(student, job, progress)
        meter = Meter(f"training {job.task}", len(job.train) * config.epochs, progress)
        if before is not None:
            meter.skip(_rows_in(plans, before.step), before.tokens)
        if not _patience_spent(before, plans, config):
            optimise(
                [
                    (student.adapter.parameters(), config.lr),
                    ([student.head_weight, student.head_bias], config.head_lr),
                ],
                [[partial(step, positions) for positions in plan] for plan in plans],
                weight_decay=config.weight_decay,
                warmup=config.warmup,
                meter=meter,
                after_epoch=keep_best,
                resume=start,
                after_step=keep_state,
            )
    assert best is not None
    file = ExpertFile(
        job.task,
        job.kind,
        job.labels,
        student.adapter.groups,
        job.adapter.alpha,
        job.spec.digest,
        backbone.digest,
        best.tensors,
        student.pooling,
    )
    head = student.head_weight.numel() + student.head_bias.numel()
    return TrainedExpert(
        file,
        student.adapter.parameter_count,
        head,
        best.epoch + 1,
        best.score,
        spent_before + time.monotonic() - started,
        meter.tokens,
    )


def job_digest(job: ExpertJob, backbone: Backbone) -> str:
    """SHA-256 of all that decides the bytes of the expert."""
    digest = hashlib.sha256()
    settings = [
        job.task,
        job.kind,
        list(job.labels),
        asdict(job.adapter),
        asdict(job.config),
        job.spec.digest,
        backbone.digest,
        str(backbone.device),
        torch.__version__,
        torch.get_num_threads(),
    ]
    digest.update(canonical_json(settings).encode())
    for row in (*job.train, *job.selection):
        digest.update(repr((row.sequences, row.type_ids, row.target)).encode())
    return digest.hexdigest()


def _rows_in(plans: Sequence[Sequence[Sequence[int]]], steps: int) -> int:
    batches = [batch for plan in plans for batch in plan]
    return sum(len(batch) for batch in batches[:steps])


def _patience_spent(
    before: Checkpoint | None, plans: Sequence[Sequence[object]], config: TrainConfig
) -> bool:
    """Whether the interrupted run had already ended early, or done all its steps."""
    if before is None:
        return False
    epochs, left = divmod(before.step, len(plans[0]))
    if epochs == len(plans):
        return True
    spent = before.best is not None and epochs - 1 - before.best.epoch >= config.patience
    return left == 0 and spent


@torch.no_grad()
def _start_head(student: _Student, job: ExpertJob, progress: ProgressCallback) -> None:
    """Fit the head to the backbone's own features: the update is still exactly zero."""
    student.collapse()
    rows = job.train[:PROBE_ROWS]
    meter = Meter(f"starting the head of {job.task}", len(rows), progress)
    features: list[Tensor] = []
    row_of: list[Tensor] = []
    targets: list[Tensor] = []
    for positions in plan_batches(rows, EVALUATION_BATCH):
        batch = _collated(rows, positions, student.backbone[0])
        row_of.append(batch.row_of.cpu() + sum(len(part) for part in targets))
        features.append(student.pooled(batch).cpu())
        targets.append(batch.targets.cpu())
        meter.advance(len(positions), batch.tokens)
    seen = torch.cat(features)
    if not bool(torch.isfinite(seen).all()):
        raise TrainingError(
            f"the backbone's states for rows of {job.task} are not finite numbers; "
            "nothing was stored. Use another backbone or another dtype"
        )
    weight, bias = student.objective.start(seen, torch.cat(row_of), torch.cat(targets))
    student.head_weight.copy_(weight)
    student.head_bias.copy_(bias)


def _collated(rows: Sequence[EncodedRow], positions: Sequence[int], backbone: Backbone) -> Batch:
    return collate(rows, positions, backbone.tokenizer.pad_token_id, backbone.device)


@torch.no_grad()
def _measure(student: _Student, rows: Sequence[EncodedRow]) -> tuple[float, float]:
    """Score and mean loss of the student as it stands."""
    student.collapse()
    score, loss = 0.0, 0.0
    for positions in plan_batches(rows, EVALUATION_BATCH):
        batch = _collated(rows, positions, student.backbone[0])
        logits = student.logits(batch)
        score += student.objective.score(logits, batch.targets) * len(positions)
        loss += float(student.objective.loss(logits, batch.targets)) * len(positions)
    return score / len(rows), loss / len(rows)
