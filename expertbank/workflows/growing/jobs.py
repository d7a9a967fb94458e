"""The middle steps of ``add``, train and measure: pure, picklable, and wherever you like.

``prepare`` makes an ``AddJob``, ``run_job`` turns it into a ``FinishedJob``, ``commit`` registers
that. All three are plain frozen values, so the middle may happen in another process or on another
machine; the backbone is loaded there and recognised by its digest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import TYPE_CHECKING, Any, Protocol

from expertbank.artifacts.store import sha256_bytes
from expertbank.config import AdapterConfig, TrainConfig, TuneConfig, canonical_json, sha256_text
from expertbank.records import (
    BackboneRecord,
    EncodedRow,
    ProgressCallback,
    RowShape,
    TaskRecord,
    no_progress,
)
from expertbank.workflows.environment import environment_of
from expertbank.workflows.held_backbone import require_backbone

if TYPE_CHECKING:
    from torch import Tensor

    from expertbank.backbones.backbone import Backbone
    from expertbank.routing.grid import Grid
    from expertbank.training.expert import TrainedExpert
    from expertbank.training.job import ExpertJob
    from expertbank.writing import Writing

Keep = Callable[[bytes], None]
"""Takes the state of unfinished training, to go on from."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the bank is to register, apart from what training and measuring find.

    Attributes:
        bank: which bank it was prepared for, see ``bank_identity``.
        task: the task; its ``created_at`` is when the job was prepared.
        version: the version to make.
        adapter: shape of the adapter, alpha decided.
        train: how to train.
        data: where the rows came from, how many there are of which kind, and their digests.
        warnings: what is odd about the data, as sentences.
        tuning: what the search for settings found, if there was one.
    """

    bank: str
    task: TaskRecord
    version: int
    adapter: AdapterConfig
    train: TrainConfig
    data: Mapping[str, Any]
    warnings: tuple[str, ...]
    tuning: Mapping[str, Any] | None = None

    @property
    def id(self) -> str:
        """The expert's name, ``task@version``."""
        return f"{self.task.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class EvaluatedRow:
    """A validation row, encoded, with what the evidence says of it."""

    encoded: EncodedRow
    shape: RowShape
    digest: str
    group: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddJob:
    """One expert to train and measure; picklable.

    Attributes:
        entry: what the bank is to register.
        backbone: the bank's backbone and feature spec; the reference is where to load it from.
        train: rows to fit on.
        selection: training rows held out to choose the checkpoint.
        kept: training rows whose features the router gets, with what each brings; those that sit
            out of its sums are of ``selection``, so that no expert was trained on them.
        validation: rows to report on.
        grid: what the statistics are of that the bank keeps in place of rows; ``None`` for what
            suits the features' width.
        writing: how answers are written, where the kind writes.
    """

    entry: Entry
    backbone: BackboneRecord
    train: tuple[EncodedRow, ...]
    selection: tuple[EncodedRow, ...]
    kept: tuple[tuple[EncodedRow, RowShape], ...]
    validation: tuple[EvaluatedRow, ...]
    grid: Grid | None = None
    writing: Writing | None = None


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A trained and measured expert that no bank knows yet; picklable.

    Attributes:
        entry: the job's.
        files: bytes by artifact kind: ``expert``, ``features`` (or statistics), ``oracle``.
        digests: SHA-256 of each.
        facts: what training says of itself, see ``AddResult.train``.
        seconds: time spent on training, also before interruptions.
        environment: what the numbers depend on besides data and weights.
        batch_plan: how the validation rows were batched.
    """

    entry: Entry
    files: Mapping[str, bytes]
    digests: Mapping[str, str]
    facts: Mapping[str, Any]
    seconds: float
    environment: Mapping[str, Any]
    batch_plan: Mapping[str, Any]


class Executor(Protocol):
    """Where a job is run."""

    def run(
        self, job: AddJob, *, progress: ProgressCallback, resume: bytes | None, keep: Keep
    ) -> FinishedJob:
        """Run ``job`` to its end.

        Args:
            job: what to train and measure.
            progress: called as work goes on, if the executor can.
            resume: the state that ``keep`` was last given by an interrupted run, if any.
            keep: takes the state of unfinished training, if the executor can.
        """


@dataclass(frozen=True, slots=True)
class InThisProcess:
    """Runs jobs here, on a backbone that is loaded already."""

    backbone: Backbone

    def run(
        self, job: AddJob, *, progress: ProgressCallback, resume: bytes | None, keep: Keep
    ) -> FinishedJob:
        """Run ``job`` to its end."""
        trained = train(job, self.backbone, progress, resume=resume, keep=keep)
        return measure(job, trained, self.backbone, progress)


def run_job(
    job: AddJob,
    *,
    backbone: str | None = None,
    device: str | None = None,
    progress: ProgressCallback = no_progress,
) -> FinishedJob:
    """Train and measure one expert anywhere: in a process of its own, on another machine.

    The same job on the same kind of machine, threads and library versions gives the same bytes.

    Args:
        job: what ``Bank.prepare`` made.
        backbone: where the backbone is here, if not where the job says.
        device: where to run it, such as ``cuda:0``; default the best there is.
        progress: called as work goes on.

    Raises:
        IntegrityError: the backbone here is not the bank's.
        TrainingError: the loss stopped being a number.
    """
    here = loaded(job, backbone, device)
    return measure(job, train(job, here, progress), here, progress)


def loaded(job: AddJob, backbone: str | None = None, device: str | None = None) -> Backbone:
    """The backbone of a job, checked; arguments and errors are those of ``run_job``."""
    from expertbank.backbones.backbone import load_backbone

    record = job.backbone
    reference = record.reference if backbone is None else backbone
    found = load_backbone(
        reference,
        revision=record.revision_of(reference),
        device=device,
        dtype=record.feature_spec.dtype,
        record=record,
    )
    require_backbone(found, record.digest, f"the bank that {job.entry.id} is for")
    return found


def train(
    job: AddJob,
    backbone: Backbone,
    progress: ProgressCallback = no_progress,
    *,
    resume: bytes | None = None,
    keep: Keep | None = None,
) -> TrainedExpert:
    """The second step of ``add``; see ``training.expert.train_expert``."""
    from expertbank.kinds import KINDS
    from expertbank.training.expert import train_expert
    from expertbank.training.untrained import untrained

    if KINDS.get(job.entry.task.kind).elsewhere:
        return untrained(expert_job(job), backbone)
    return train_expert(expert_job(job), backbone, progress, resume=resume, keep=keep)


def tuned(
    job: AddJob,
    backbone: Backbone,
    config: TuneConfig,
    progress: ProgressCallback = no_progress,
    *,
    resume: bytes | None = None,
    keep: Keep | None = None,
) -> AddJob:
    """The job with the settings that a search found; see ``training.tuning.tune``."""
    from expertbank.training.tuning import tune

    found = tune(expert_job(job), backbone, config, progress, resume=resume, keep=keep)
    entry = replace(job.entry, adapter=found.adapter, train=found.train, tuning=found.facts)
    return replace(job, entry=entry)


def expert_job(job: AddJob) -> ExpertJob:
    """What training sees of a job."""
    from expertbank.training.job import ExpertJob

    entry = job.entry
    return ExpertJob(
        entry.task.name,
        entry.task.kind,
        entry.task.labels,
        job.train,
        job.selection,
        entry.adapter,
        entry.train,
        job.backbone.feature_spec,
        job.writing,
    )


def measure(
    job: AddJob,
    trained: TrainedExpert,
    backbone: Backbone,
    progress: ProgressCallback = no_progress,
) -> FinishedJob:
    """The third step of ``add``: answers to the validation rows, and features for the router."""
    import torch

    from expertbank.adapters.pool import ExpertPool
    from expertbank.kinds import KINDS
    from expertbank.models.routed import RoutedModel
    from expertbank.routing.feature_file import FeatureFile
    from expertbank.routing.statistics import Statistics, sits_out
    from expertbank.routing.statistics_file import write_statistics
    from expertbank.routing.sureness import in_steps, unasked
    from expertbank.workflows.growing.spans import short_spans
    from expertbank.workflows.measure import FIRST_TOKEN, answers, trunk_features

    entry, spec = job.entry, job.backbone.feature_spec
    collapsed = trained.file.collapse(entry.id, backbone.device, getattr(torch, spec.dtype))
    model = RoutedModel(backbone, spec, ExpertPool.holding({entry.id: collapsed}))
    rows = [row.encoded for row in job.validation]
    measured = answers(model, rows, entry.id, progress)
    kind = KINDS.get(entry.task.kind)
    oracle = measured.predictions(
        kind,
        [row.digest for row in job.validation],
        [row.group for row in job.validation],
    )
    features = trunk_features(model, [row for row, _ in job.kept], progress)
    shapes = tuple(shape for _, shape in job.kept)

    known = frozenset(job.train)

    def sure(asked: Sequence[EncodedRow]) -> Tensor:
        """Of rows that it was trained on nobody asks it."""
        found = unasked(len(asked))
        places = [place for place, row in enumerate(asked) if row not in known]
        if places:
            some = [asked[place] for place in places]
            own = answers(model, some, entry.id, progress, FIRST_TOKEN)
            found[places] = in_steps(kind.sureness(own.logits))
        return found

    spans = short_spans(model, job.kept, features.shape[1], entry.train.seed, sure, progress)
    if spec.keep == "stats":
        own = Statistics.of(features, shapes, spec.digest, job.grid, spans=spans)
        kept = write_statistics(own.without_rows())
    else:
        evaluated = tuple(row.shape for row in job.validation)
        file = FeatureFile(
            *(features, measured.features, shapes, evaluated, spec.digest),
            torch.tensor([row.length for row, _ in job.kept], dtype=torch.int32),
            spans,
            sure(list(compress((row for row, _ in job.kept), sits_out(len(job.kept)).tolist()))),
            in_steps(kind.sureness(measured.logits)),
            int(in_steps(kind.sureness(_guessed(measured.logits))).median()),
        )
        kept = file.to_bytes()
    files = {
        "expert": trained.file.to_bytes(),
        "features": kept,
        "oracle": oracle.to_bytes(),
    }
    return FinishedJob(
        entry,
        files,
        {name: sha256_bytes(data) for name, data in files.items()},
        _facts(job, trained),
        trained.seconds,
        environment_of(str(backbone.device), spec.dtype),
        measured.batch_plan,
    )


def _guessed(logits: Tensor) -> Tensor:
    """``[rows, width]`` of whoever takes all answers for equally likely."""
    return logits.masked_fill(logits > float("-inf"), 0.0)


def _facts(job: AddJob, trained: TrainedExpert) -> dict[str, Any]:
    return {
        "examples": len(job.train),
        "rank_one_params": trained.rank_one_params,
        "epochs": job.entry.train.epochs if trained.epochs else 0,
        "epochs_trained": trained.epochs,
        "seconds": round(trained.seconds, 3),
        "tokens_per_second": round(trained.tokens / max(trained.seconds, 1e-9), 1),
        "best_epoch": trained.best_epoch,
        "selection_examples": len(job.selection),
        "selection_score": trained.selection_score,
        "curve": list(trained.curve),
        "cached_trunk_rows": trained.cached_rows,
        "cached_trunk_bytes": trained.cached_bytes,
        "truncated": sum(row.truncated for row in job.train),
    }


def bank_identity(backbone: BackboneRecord) -> str:
    """Which bank it is: its backbone, its feature spec and the moment it was initialised."""
    return sha256_text(
        canonical_json([backbone.digest, backbone.feature_spec.digest, backbone.created_at])
    )
