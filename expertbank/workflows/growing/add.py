"""``add``: prepare, train, measure, commit; and the last of these, the only one that writes.

Nothing is written before training has ended well. Then files first, made durable, and last one
transaction that makes the expert exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from expertbank.artifacts.store import sha256_bytes
from expertbank.clock import now
from expertbank.config import AdapterConfig, sha256_text
from expertbank.errors import ExistsError, InputError, IntegrityError, StaleError
from expertbank.kinds import adapter_elsewhere
from expertbank.records import (
    ExpertRecord,
    ProgressCallback,
    ProgressEvent,
    RunRecord,
    no_progress,
)
from expertbank.workflows.growing.grouping import require_free_names
from expertbank.workflows.growing.jobs import (
    Executor,
    FinishedJob,
    InThisProcess,
    bank_identity,
    tuned,
)
from expertbank.workflows.growing.prepare import prepare, warn
from expertbank.workflows.growing.register import NewExpert, register
from expertbank.workflows.growing.request import AddRequest
from expertbank.workflows.workspace import Workspace


@dataclass(frozen=True, slots=True)
class AddResult:
    """What was added.

    Attributes:
        expert: the registered expert.
        metrics: quality on validation rows, as the task's kind measures it.
        train: ``examples``, ``epochs``, how many were trained before patience was spent
            (``epochs_trained``), ``seconds``, ``tokens_per_second``, ``best_epoch``,
            ``selection_score``, that score after each epoch (``curve``), and how many rows' trunk
            states were computed only once (``cached_trunk_rows``) in how many bytes.
        adapter: kind of adapter with its settings, nothing left open.
        data: where the rows came from and how many were dropped for which reason.
        warnings: what the user should look at in the data.
        tuning: what the search for settings found, if there was one.
    """

    expert: ExpertRecord
    metrics: dict[str, Any]
    train: Mapping[str, Any]
    adapter: AdapterConfig
    data: dict[str, Any]
    warnings: tuple[str, ...] = ()
    tuning: Mapping[str, Any] | None = None

    @property
    def external_adapter(self) -> str | None:
        """What the adapter elsewhere is called that answers; ``None`` for an expert of ours."""
        return adapter_elsewhere(self.expert.kind, self.expert.labels)

    def to_dict(self) -> dict[str, Any]:
        """The document of ``add --json``."""
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
                "external_adapter": self.external_adapter,
            },
            "metrics": self.metrics,
            "train": dict(self.train),
            "adapter": asdict(self.adapter),
            "tuning": None if self.tuning is None else dict(self.tuning),
            "data": self.data,
            "warnings": list(self.warnings),
        }


def add(
    workspace: Workspace,
    request: AddRequest,
    progress: ProgressCallback = no_progress,
    *,
    on: Executor | None = None,
) -> AddResult:
    """Train and register one expert.

    Args:
        workspace: the open bank.
        request: what to add.
        progress: called as work goes on.
        on: where to train and measure; default here. A search for settings runs here.

    Raises:
        ExistsError: the task has an expert and no new version was asked for.
        InputError: bad data or options; nothing was written.
        IntegrityError: another backbone than the bank's.
        TrainingError: the loss stopped being a number; nothing was written.
    """
    job = prepare(workspace, request, progress)
    warn(job, progress)
    checkpoint, search = (workspace.checkpoint(job.entry.task.name, of) for of in ("", "tuning"))
    if request.search is not None:
        begun = search.read() if request.resume else None
        if begun is None:
            checkpoint.remove()  # of an earlier run, which had other settings than those to come
        job = tuned(
            job, workspace.backbone, request.search, progress, resume=begun, keep=search.write
        )
    done = (on or InThisProcess(workspace.backbone)).run(
        job,
        progress=progress,
        resume=checkpoint.read() if request.resume else None,
        keep=checkpoint.write,
    )
    result = commit(workspace, done, progress=progress)
    checkpoint.remove()
    search.remove()
    return result


def commit(
    workspace: Workspace,
    done: FinishedJob,
    origin: Mapping[str, Any] | None = None,
    *,
    progress: ProgressCallback = no_progress,
) -> AddResult:
    """Register an expert that a job of this bank gave, wherever that ran.

    Its files come from outside: they are checked before a byte is stored.

    Args:
        workspace: the open bank.
        done: the expert.
        origin: for the lineage of an adapter that was trained elsewhere, where it came from.
        progress: told when it is registered.

    Raises:
        InputError: the job was prepared for another bank.
        IntegrityError: a file is damaged, or is not what the job asked for.
        ExistsError: the version, or the name of the task or of its group, was taken meanwhile.
        StaleError: the bank was restored to before the job was prepared.
    """
    from expertbank.workflows.growing.statistics import grid_of, require_grid

    entry, backbone = done.entry, workspace.backbone_record
    if entry.bank != bank_identity(backbone):
        raise InputError(
            f"the job of {entry.id} was prepared for another bank than the one at "
            f"{workspace.home}; prepare it here and run it again"
        )
    if {kind: sha256_bytes(data) for kind, data in done.files.items()} != dict(done.digests):
        raise IntegrityError(f"{entry.id}: its files are not those that were made; run it again")
    new = NewExpert.checked(
        entry.id,
        backbone.feature_spec,
        replace(entry.task, created_at=now()),
        entry.version,
        RunRecord(
            "add" if origin is None else "import",
            {
                **({} if origin is None else {"peft": dict(origin)}),
                "adapter": asdict(entry.adapter),
                "train": asdict(entry.train),
                "result": dict(done.facts),
                **({"tuning": dict(entry.tuning)} if entry.tuning else {}),
            },
            entry.train.seed,
            dict(done.environment),
            entry.data,
            backbone.digest,
            done.seconds,
        ),
        {**done.environment, "batch_plan": dict(done.batch_plan)},
        done.files,
    )
    require_grid(entry.id, new.summed.statistics.grid, grid_of(workspace))
    validation = sha256_text("\n".join(sorted(new.oracle.row_digests)))
    if validation != entry.data["digests"]["validation"]:
        raise IntegrityError(f"{entry.id}: it was measured on other rows than those prepared")
    with workspace.writing():
        _require_next(workspace, entry.task.name, entry.version)
        require_free_names(workspace.registry, [new.task])
        registered, metrics = register(workspace, new)
    told = f"{registered.id} was added"
    progress(ProgressEvent("registering", 1, 1, lasting=told))
    shown = {name: value for name, value in entry.data.items() if name != "spec"}
    shown.setdefault("columns", entry.data["spec"]["columns"])  # of a job prepared before
    made = registered, metrics, done.facts, entry.adapter
    return AddResult(*made, shown, entry.warnings, entry.tuning)


def _require_next(workspace: Workspace, name: str, version: int) -> None:
    free = workspace.registry.next_version(name)
    if free > version:
        raise ExistsError(
            f"expert {name}@{version} was registered meanwhile, and experts never change; add "
            "another version with --new-version"
        )
    if free < version:
        raise StaleError(
            f"the job was prepared for {name}@{version}, but the bank's next is {name}@{free}; "
            "prepare it again"
        )
