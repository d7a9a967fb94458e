"""``add``: train one expert, measure it, cache its routing features, register it.

Nothing is written before training has ended well. Then files first, made durable, and last one
transaction that makes the expert exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from expertbank.artifacts.store import sha256_bytes
from expertbank.config import AdapterConfig, FeatureSpec, Keep, TrainConfig
from expertbank.errors import ExistsError, InputError
from expertbank.kinds import KINDS
from expertbank.records import (
    ArtifactRecord,
    EncodedRow,
    EvaluationRecord,
    ExpertRecord,
    FeatureSetRecord,
    ProgressCallback,
    Row,
    RunRecord,
    TaskRecord,
    no_progress,
)
from expertbank.tasks import (
    TaskData,
    TaskSpec,
    encode_rows,
    hold_out_for_selection,
    load_task,
    take,
)
from expertbank.tasks.spec import check_task_name
from expertbank.workflows.initialise import initialise
from expertbank.workflows.workspace import Workspace, now

FEATURE_ROWS = 2000
"""Most training rows of a task whose features are kept for the router."""
STATISTICS_ROWS = 20
"""Fewest training rows of a task of which statistics alone are kept."""


@dataclass(frozen=True, slots=True)
class AddRequest:
    """What to add and how.

    Attributes:
        spec: the task.
        source: the user's source reference, ``None`` for the task's own.
        adapter: shape of the adapter.
        train: how to train.
        group: name of the group of tasks that answer the same texts, if it is one of them.
        new_version: whether a task that has an expert gets another.
        resume: go on with an interrupted run of the same command, if there is one.
        backbone: backbone for a bank that has none yet.
        route_layer: route layer for such a bank.
        max_length: maximum length for such a bank.
        dtype: type of the backbone's weights for such a bank.
        keep: what such a bank keeps of tasks' rows for the router.
    """

    spec: TaskSpec
    source: str | None = None
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    group: str | None = None
    new_version: bool = False
    resume: bool = False
    backbone: str | None = None
    route_layer: int | None = None
    max_length: int | None = None
    dtype: str | None = None
    keep: Keep | None = None


@dataclass(frozen=True, slots=True)
class AddResult:
    """What was added.

    Attributes:
        expert: the registered expert.
        metrics: quality on validation rows, as the task's kind measures it.
        train: ``examples``, ``epochs``, ``seconds``, ``tokens_per_second``, ``best_epoch``,
            ``selection_score``, and how many rows' trunk states were computed only once
            (``cached_trunk_rows``) in how many bytes.
        data: where the rows came from and how many were dropped for which reason.
        warnings: what the user should look at in the data.
    """

    expert: ExpertRecord
    metrics: dict[str, Any]
    train: dict[str, Any]
    data: dict[str, Any]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The machine contract's form."""
        return {
            "task": self.expert.task,
            "expert": {
                "id": self.expert.id,
                "version": self.expert.version,
                "digest": self.expert.digest,
                "adapter_params": self.expert.adapter_params,
                "head_params": self.expert.head_params,
                "bytes": self.expert.bytes,
                "labels": list(self.expert.labels),
            },
            "metrics": self.metrics,
            "train": self.train,
            "data": self.data,
            "warnings": list(self.warnings),
        }


def add(
    workspace: Workspace, request: AddRequest, progress: ProgressCallback = no_progress
) -> AddResult:
    """Train and register one expert.

    Raises:
        ExistsError: the task has an expert and no new version was asked for.
        InputError: bad data or options; nothing was written.
        IntegrityError: another backbone than the bank's.
        TrainingError: the loss stopped being a number; nothing was written.
    """
    name = request.spec.name
    if request.group is not None:
        check_task_name(request.group)
    if workspace.exists:
        _require_new(workspace, name, new_version=request.new_version)
        _require_same_task(workspace, request)
        _require_fitting_group(workspace, request)
        workspace.registry.probe_writable()
    config = request.train
    data = load_task(
        request.spec,
        request.source,
        limit=config.limit,
        eval_limit=config.eval_limit,
        seed=config.seed,
    )
    initialise(
        workspace,
        reference=request.backbone,
        route_layer=request.route_layer,
        max_length=request.max_length,
        dtype=request.dtype,
        keep=request.keep,
    )
    _require_enough_rows(workspace.spec, data)
    # Asked again: reading the data took time, and another process may have been faster.
    version = _require_new(workspace, name, new_version=request.new_version)
    return _train_and_register(workspace, request, data, version, progress)


def _require_enough_rows(spec: FeatureSpec, data: TaskData) -> None:
    """Where statistics only are kept, those of a few rows would give the rows away."""
    if spec.keep == "stats" and len(data.train) < STATISTICS_ROWS:
        raise InputError(
            f"this bank keeps statistics only, and those of {len(data.train)} training rows "
            f"would give the rows away; bring at least {STATISTICS_ROWS}"
        )


def _require_same_task(workspace: Workspace, request: AddRequest) -> None:
    """A new version keeps kind and group; the registry would refuse it, but only when trained."""
    for task in workspace.registry.tasks(include_removed=True):
        if task.name != request.spec.name:
            continue
        if task.kind != request.spec.kind:
            raise InputError(
                f"task {task.name} is registered as {task.kind}, a new version cannot be "
                f"{request.spec.kind}; use another task name"
            )
        if request.group not in {None, task.group}:
            stands = f"is in group {task.group}" if task.group else "stands alone"
            raise InputError(
                f"task {task.name} {stands}, a new version cannot put it into group "
                f"{request.group}; use another task name"
            )


def _require_fitting_group(workspace: Workspace, request: AddRequest) -> None:
    """A group answers one text: kinds that read no rows in common cannot be in one."""
    for task in workspace.registry.tasks():
        if request.group is None or task.group != request.group:
            continue
        if not KINDS.get(task.kind).shapes & KINDS.get(request.spec.kind).shapes:
            raise InputError(
                f"group {request.group} holds {task.name}, a {task.kind} task; "
                f"a {request.spec.kind} task cannot answer the same rows"
            )


def _require_new(workspace: Workspace, name: str, *, new_version: bool) -> int:
    """The version to make."""
    version = workspace.registry.next_version(name)
    if version > 1 and not new_version:
        if workspace.registry.task(name).removed_at is not None:
            raise ExistsError(
                f"task {name!r} was removed, and its expert {name}@{version - 1} is kept; "
                "train another version with --new-version, which makes the task alive again"
            )
        raise ExistsError(
            f"task {name!r} has expert {name}@{version - 1}; experts never change. "
            "Train another version with --new-version"
        )
    return version


def _train_and_register(
    workspace: Workspace,
    request: AddRequest,
    data: TaskData,
    version: int,
    progress: ProgressCallback,
) -> AddResult:
    import torch

    from expertbank.adapters.pool import ExpertPool
    from expertbank.models.routed import RoutedModel
    from expertbank.routing.feature_file import FeatureFile
    from expertbank.routing.moments_file import MomentsFile
    from expertbank.training.expert import ExpertJob, train_expert
    from expertbank.workflows.measure import answers, trunk_features

    spec, backbone, config = workspace.spec, workspace.backbone, request.train
    adapter = replace(request.adapter, alpha=request.adapter.multiplier(spec))
    kind = KINDS.get(data.spec.kind)
    share = config.selection_share_of(len(data.train))
    fit, selection = hold_out_for_selection(data.train, share, config.seed, kind.classes)

    def encoded(rows: Sequence[Row]) -> tuple[EncodedRow, ...]:
        return tuple(encode_rows(rows, backbone.tokenizer, kind, data.labels, spec.max_length))

    job = ExpertJob(
        data.spec.name,
        data.spec.kind,
        data.labels,
        encoded(fit),
        encoded(selection),
        adapter,
        config,
        spec,
    )
    checkpoint = workspace.checkpoint(data.spec.name)
    trained = train_expert(
        job,
        backbone,
        progress,
        resume=checkpoint.read() if request.resume else None,
        keep=checkpoint.write,
    )
    file = trained.file.to_bytes()

    expert_id = f"{data.spec.name}@{version}"
    collapsed = trained.file.collapse(expert_id, backbone.device, getattr(torch, spec.dtype))
    model = RoutedModel(backbone, spec, ExpertPool.holding({expert_id: collapsed}))
    measured = answers(model, encoded(data.validation), expert_id, progress)
    oracle = measured.predictions(
        kind, [row.digest for row in data.validation], [row.group for row in data.validation]
    )
    kept = take(data.train, FEATURE_ROWS, config.seed)
    train_features = trunk_features(model, encoded(kept), progress)
    shapes = tuple(row.shape for row in kept)
    routing: FeatureFile | MomentsFile
    if spec.keep == "stats":
        routing = MomentsFile.of(train_features, shapes, spec.digest)
    else:
        evaluation_shapes = tuple(row.shape for row in data.validation)
        routing = FeatureFile(
            train_features, measured.features, shapes, evaluation_shapes, spec.digest
        )
    metrics = kind.metrics(oracle)
    blobs = {"expert": file, "features": routing.to_bytes(), "oracle": oracle.to_bytes()}
    digests = {name: sha256_bytes(blob) for name, blob in blobs.items()}
    expert = ExpertRecord(
        data.spec.name,
        version,
        digests["expert"],
        trained.adapter_params,
        trained.head_params,
        len(file),
        data.labels,
        data.spec.kind,
    )
    train_facts = {
        "examples": len(job.train),
        "epochs": config.epochs,
        "seconds": round(trained.seconds, 3),
        "tokens_per_second": round(trained.tokens / max(trained.seconds, 1e-9), 1),
        "best_epoch": trained.best_epoch,
        "selection_examples": len(job.selection),
        "selection_score": trained.selection_score,
        "cached_trunk_rows": trained.cached_rows,
        "cached_trunk_bytes": trained.cached_bytes,
        "truncated": sum(row.truncated for row in job.train),
    }
    source = _source_facts(data)
    environment = workspace.environment()
    with workspace.writing():
        for blob in blobs.values():
            workspace.store.put(blob)
        registered = workspace.registry.commit_expert(
            TaskRecord(
                data.spec.name,
                data.spec.kind,
                data.labels,
                data.spec.to_dict(),
                now(),
                group=request.group,
            ),
            RunRecord(
                "add",
                {"adapter": asdict(adapter), "train": asdict(config), "result": train_facts},
                config.seed,
                environment,
                source,
                backbone.digest,
                trained.seconds,
            ),
            expert,
            [ArtifactRecord(digests[name], name, len(blob)) for name, blob in blobs.items()],
            FeatureSetRecord(
                expert_id,
                digests["features"],
                spec.digest,
                routing.width,
                routing.n_train,
                routing.n_eval,
                len(blobs["features"]),
            ),
            [
                EvaluationRecord(
                    expert_id,
                    metrics["n"],
                    kind.outcome(oracle).correct(),
                    digests["oracle"],
                    metrics,
                    {**environment, "batch_plan": measured.batch_plan},
                )
            ],
        )
    checkpoint.remove()
    shown = {name: value for name, value in source.items() if name != "spec"}
    return AddResult(registered, metrics, train_facts, shown, data.warnings)


def _source_facts(data: TaskData) -> dict[str, Any]:
    return {
        "source": data.source,
        "revision": data.revision,
        "counts": dict(data.counts),
        "digests": dict(data.digests),
        "spec": data.spec.to_dict(),
    }
