"""Training one expert: TT-LoRA cores and a head, on a frozen backbone.

A pure function of the job and the backbone: no registry, no files, no global random state.
Source: TT-LoRA MoE, arXiv 2504.21190, section 3.1; unlike its code, the head is trained too
and the checkpoint is chosen on held-out *training* rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import EVALUATION_BATCH, plan_batches, shuffled_batches
from expertbank.backbones.forks import computing
from expertbank.errors import TrainingError
from expertbank.models.expert_file import ExpertFile
from expertbank.models.writing import template_tokens
from expertbank.records import EncodedRow, ProgressCallback, no_progress
from expertbank.training.average import RunningMean
from expertbank.training.checkpoint import Checkpoint, Run
from expertbank.training.held_out import Course, HeldOut
from expertbank.training.job import ExpertJob, job_digest, rate_of
from expertbank.training.loop import Meter, adamw, optimise
from expertbank.training.reproducible import reproducibly
from expertbank.training.student import Student, read_through
from expertbank.training.trunk import TrunkCache, rows_within

__all__ = ["ExpertJob", "TrainedExpert", "job_digest", "train_expert"]

KEEP_SECONDS = 30.0
"""How much work an interruption may cost, at most."""

PROBE_ROWS = 2000
"""Most training rows that the head's start is fitted on."""


@dataclass(frozen=True, slots=True)
class TrainedExpert:
    """What training gives.

    Attributes:
        file: the frozen expert.
        adapter_params: numbers in the adapter.
        rank_one_params: numbers that LoRA of rank 1 would have on the same projections.
        head_params: numbers in the head.
        epochs: how many were trained until the end or until patience was spent.
        best_epoch: epoch of the kept checkpoint, from 1.
        selection_score: its score on the held-out training rows, as the task's kind has it;
            ``None`` where nothing was trained.
        curve: that score after each epoch.
        seconds: time spent, also before interruptions.
        tokens: real tokens trained on.
        cached_rows: training and held-out rows whose trunk states were computed only once.
        cached_bytes: bytes that these states took.
    """

    file: ExpertFile
    adapter_params: int
    rank_one_params: int
    head_params: int
    epochs: int
    best_epoch: int
    selection_score: float | None
    curve: tuple[float, ...]
    seconds: float
    tokens: int
    cached_rows: int
    cached_bytes: int


@computing()
def train_expert(
    job: ExpertJob,
    backbone: Backbone,
    progress: ProgressCallback = no_progress,
    *,
    resume: bytes | None = None,
    keep: Callable[[bytes], None] | None = None,
    watch: Callable[[int, float, float], bool] | None = None,
) -> TrainedExpert:
    """Train one expert and keep its best checkpoint.

    The same job on the same machine, threads and library versions gives the same bytes, also
    when it was interrupted and resumed; on CUDA see ``reproducible``.

    Args:
        job: what to train.
        backbone: the frozen model.
        progress: called as training goes on.
        resume: the state that ``keep`` was last given by an interrupted run of the same job.
        keep: takes the state every epoch and every ``KEEP_SECONDS``.
        watch: told each epoch's number, from 0, and its held-out score and loss; true ends the
            training.

    Raises:
        TrainingError: the loss stopped being a number.
        InputError: ``resume`` is of another job.
    """
    given = job, backbone, progress, resume, keep, watch
    return reproducibly(backbone.device, partial(_train, *given))


def _train(
    job: ExpertJob,
    backbone: Backbone,
    progress: ProgressCallback,
    resume: bytes | None,
    keep: Callable[[bytes], None] | None,
    watch: Callable[[int, float, float], bool] | None,
) -> TrainedExpert:
    started, config, identity = time.monotonic(), job.config, job_digest(job, backbone)
    before = Checkpoint.from_bytes(resume, "checkpoint", identity) if resume else None
    generator = torch.Generator().manual_seed(config.seed)
    student = Student(job, backbone, generator)
    job = _as_read(job, backbone)
    plans = [
        shuffled_batches(job.train, config.batch_size, generator) for _ in range(config.epochs)
    ]
    run = _run(student, job)
    trained, held_out = _cached(student, job, progress)
    if before is None and student.language is None:
        _start_head(student, job, trained, progress)
    meter = Meter(f"training {job.task}", len(job.train) * config.epochs, progress)
    done = 0
    if before is not None:
        run.restore(before)
        done, started = before.step, started - before.seconds
        meter.skip(sum(map(len, list(chain(*plans))[:done])), before.tokens)

    def gradient(positions: Sequence[int]) -> tuple[float, int]:
        return student.gradients(job.train, positions, config.accumulate, trained)

    kept_at = time.monotonic()
    steps = optimise(run.optimiser, plans, gradient, warmup=config.warmup, meter=meter, done=done)
    for step in () if run.course.over else steps:
        run.average.update()
        ended = False
        if step.ends_epoch:
            now = _end_epoch(run, student, job, held_out, step.epoch)
            told = watch is not None and watch(step.epoch, now.score, now.loss)
            ended = told or run.course.over
        if keep and (step.ends_epoch or time.monotonic() - kept_at >= KEEP_SECONDS):
            spent = time.monotonic() - started
            keep(run.checkpoint(identity, step.number, meter.tokens, spent).to_bytes())
            kept_at = time.monotonic()
        if ended:
            break
    best = run.course.best
    assert best is not None
    file = ExpertFile(
        job.task,
        job.kind,
        job.labels,
        student.adapter_kind.name,
        student.adapter.facts(),
        job.adapter.multiplier(job.spec),
        job.spec.digest,
        backbone.digest,
        best.tensors,
        student.pooling,
        job.writing,
    )
    return TrainedExpert(
        file,
        student.adapter.parameter_count,
        student.rank_one,
        file.head_params,
        len(run.course.curve),
        best.epoch + 1,
        best.held_out.score,
        tuple(one.score for one in run.course.curve),
        time.monotonic() - started,
        meter.tokens,
        trained.rows + held_out.rows,
        trained.bytes + held_out.bytes,
    )


def _run(student: Student, job: ExpertJob) -> Run:
    """A training that has taken no step."""
    config, parameters = job.config, dict(student.named_parameters())
    rates = [
        (student.adapter.parameters(), rate_of(config, job.adapter)),
        (student.head, config.head_lr),
    ]
    return Run(
        parameters,
        adamw(rates, config.weight_decay),
        RunningMean(parameters, config.average_steps),
        Course(config.patience),
    )


def _end_epoch(
    run: Run, student: Student, job: ExpertJob, cache: TrunkCache, epoch: int
) -> HeldOut:
    """Measure the mean of the weights on the held-out rows, and keep it if it is the best."""
    with run.average.in_place():
        now, thresholds = _measure(student, job.selection, cache)
        tensors = student.tensors() | thresholds
    if not math.isfinite(now.loss):  # the last step of an epoch has no next loss to show it
        raise TrainingError(
            f"the held-out loss became {now.loss} after epoch {epoch + 1}; nothing was stored. "
            "Try a lower learning rate (--lr) or a smaller alpha (--alpha)"
        )
    run.course.add(now, tensors, epoch)
    return now


def _as_read(job: ExpertJob, backbone: Backbone) -> ExpertJob:
    """The job with its rows as training reads them; of a kind that writes, answers and all."""
    if job.writing is None:
        return job
    template = template_tokens(backbone, job.writing.template)
    train, selection = (
        tuple(read_through(row, template) for row in rows) for rows in (job.train, job.selection)
    )
    return replace(job, train=train, selection=selection)


def _cached(
    student: Student, job: ExpertJob, progress: ProgressCallback
) -> tuple[TrunkCache, TrunkCache]:
    """Trunk states of the training and the held-out rows, as far as they fit the bound."""
    view, limit = student.view, job.config.cache_bytes
    train = rows_within(job.train, limit, view)
    every = len(job.train) + len(job.selection)
    meter = Meter(f"running the trunk for {job.task}", every, progress)
    trained = TrunkCache(view, job.train, train, meter.advance)
    selection = rows_within(job.selection, limit - trained.bytes, view)
    held_out = TrunkCache(view, job.selection, selection, meter.advance)
    if meter.done:  # those that did not fit were passed over
        meter.advance(every - meter.done, 0)
    return trained, held_out


@torch.no_grad()
def _start_head(
    student: Student, job: ExpertJob, cache: TrunkCache, progress: ProgressCallback
) -> None:
    """Fit the head to the backbone's own features: the update is still exactly zero."""
    student.collapse()
    rows = job.train[:PROBE_ROWS]
    meter = Meter(f"starting the head of {job.task}", len(rows), progress)
    features: list[Tensor] = []
    row_of: list[Tensor] = []
    targets: list[Tensor] = []
    for positions in plan_batches(rows, EVALUATION_BATCH):
        batch = student.batch(rows, positions)
        row_of.append(batch.row_of.cpu() + sum(len(part) for part in targets))
        features.append(student.pooled(batch, cache).cpu())
        targets.append(batch.targets.cpu())
        meter.advance(len(positions), batch.tokens)
    seen = torch.cat(features)
    if not bool(torch.isfinite(seen).all()):
        raise TrainingError(
            f"the backbone's states for rows of {job.task} are not finite numbers; "
            "nothing was stored. Use another backbone or another dtype"
        )
    head = student.objective.start(seen, torch.cat(row_of), torch.cat(targets))
    if head is not None:
        student.head_weight.copy_(head[0])
        student.head_bias.copy_(head[1])


@torch.no_grad()
def _measure(
    student: Student, rows: Sequence[EncodedRow], cache: TrunkCache
) -> tuple[HeldOut, dict[str, Tensor]]:
    """How the student stands on ``rows``, and the thresholds that suit it."""
    student.collapse()
    score, loss = 0.0, 0.0
    seen: list[tuple[Tensor, Tensor]] = []
    for positions in plan_batches(rows, EVALUATION_BATCH):
        batch = student.batch(rows, positions)
        logits, answers = student.answers(rows, batch, cache)
        score += student.objective.score(logits, answers) * len(positions)
        loss += float(student.objective.loss(logits, answers)) * len(positions)
        if student.kind.has_thresholds:
            seen.append((logits, answers))
    found: dict[str, Tensor] = {}
    if seen:
        logits, targets = (torch.cat(part) for part in zip(*seen, strict=True))
        thresholds = student.objective.thresholds(logits, targets)
        found = {} if thresholds is None else {"head.threshold": thresholds}
    return HeldOut(score / len(rows), loss / len(rows)), found
