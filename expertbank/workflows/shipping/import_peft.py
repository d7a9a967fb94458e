"""``import --peft``: a LoRA adapter that was trained elsewhere becomes an expert of this bank.

Its factors go in as they are, with its own head where it brings one; nothing of it is trained
further. It is measured on rows that the user brings, like an expert that was trained here, so that
it is routed to and reported on like any other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from expertbank.adapters.lora import LORA
from expertbank.adapters.peft import lora_rank
from expertbank.adapters.peft_places import placed
from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.slots import Factors
from expertbank.adapters.targets import lowest_layer
from expertbank.adapters.tt import TTAdapter
from expertbank.backbones.backbone import Backbone
from expertbank.config import AdapterConfig, FeatureSpec
from expertbank.errors import InputError
from expertbank.kinds import KINDS
from expertbank.models.expert_file import ExpertFile
from expertbank.models.routed import RoutedModel
from expertbank.models.saved_head import Head
from expertbank.records import ProgressCallback, TaskRecord, no_progress
from expertbank.references import without_folders
from expertbank.training.expert import TrainedExpert
from expertbank.training.head import fit_head
from expertbank.wording import few
from expertbank.workflows.environment import package_versions
from expertbank.workflows.growing.add import AddResult, commit
from expertbank.workflows.growing.jobs import AddJob, expert_job, measure
from expertbank.workflows.growing.prepare import prepare
from expertbank.workflows.growing.request import AddRequest
from expertbank.workflows.measure import answers
from expertbank.workflows.shipping.peft_base import require_base
from expertbank.workflows.shipping.peft_folder import PeftFolder, read_peft_folder
from expertbank.workflows.shipping.peft_head import head_of, require_outputs, require_outside
from expertbank.workflows.shipping.peft_labels import Named, named, require_order
from expertbank.workflows.workspace import Workspace

HeadFrom = Literal["export", "saved", "fitted"]
"""Whose head it is: of the bank that exported it, of the adapter's own model, or made here."""
_NO_HEAD = "a fitted head does not read it"
_LOST = (
    "its configuration says that {} was saved as a whole, and its file holds nothing of that: if "
    "it was trained with such a head, that is lost, and another one is fitted"
)
_REACHES = (
    "it changes layers from {} on, and the router reads what goes into layer {}: a batch that "
    "needs it runs the layers below that a second time"
)
_UNSEEN = (
    "nothing tells which rows the adapter was trained on: if the validation rows are among them, "
    "its quality is less than it looks"
)


@dataclass(frozen=True, slots=True)
class PeftRequest:
    """Which adapter comes in, and as what.

    Attributes:
        folder: the adapter's.
        add: the task, its rows, and the bank; ``adapter`` is not read, and ``train`` is how a head
            is fitted where one must be.
        labels: names of the head's outputs, in their order, where the adapter does not tell.
        fit_head: fit a head on the training rows, whatever head the adapter brings.
        same_base: believe that an adapter whose base has another name was trained on this
            backbone.
    """

    folder: Path
    add: AddRequest
    labels: tuple[str, ...] = ()
    fit_head: bool = False
    same_base: bool = False


@dataclass(frozen=True, slots=True)
class PeftImported:
    """What came in.

    Attributes:
        added: the expert, as if it had been added.
        origin: what its lineage says of where it came from.
    """

    added: AddResult
    origin: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The document of ``import --peft --json``: of ``import`` and of ``add`` together."""
        expert = self.added.expert
        told = {
            "task": expert.task,
            "id": expert.id,
            "version": expert.version,
            "digest": expert.digest,
        }
        return {
            **self.added.to_dict(),
            "bundle": None,
            "imported": [told],
            "skipped": [],
            "dry_run": False,
            "remarks": list(self.added.warnings),
            "peft": dict(self.origin),
        }


def import_peft(
    workspace: Workspace, request: PeftRequest, progress: ProgressCallback = no_progress
) -> PeftImported:
    """Take an adapter in, measure it, and register it.

    Args:
        workspace: the open bank; one without a backbone gets it as ``add`` would.
        request: what to take in.
        progress: told as rows are read and the expert is measured.

    Raises:
        NotFoundError: no adapter there.
        InputError: an adapter, a head or labels that cannot be an expert's, or bad data.
        IntegrityError: a file is damaged, or it belongs to another backbone.
        ExistsError: the task has an expert and no new version was asked for.
        TrainingError: fitting a head came to no end.
    """
    found = read_peft_folder(request.folder)
    naming = named(found, request.labels, request.add.task, fit=request.fit_head)
    if not KINDS.get(naming.task.kind).has_head:
        raise InputError(
            f"an adapter comes in as an expert with a head, and one of kind {naming.task.kind} has "
            "none; bring it with a bundle of its bank's (export --for-import), or name another kind"
        )
    factors: Factors = {}
    head: Head | None = None
    remarks: list[str] = []
    begins: int | None = None

    def fits(backbone: Backbone, spec: FeatureSpec) -> None:
        nonlocal factors, head, remarks, begins
        remarks = [_UNSEEN, *require_base(found, backbone, same=request.same_base)]
        bare = request.fit_head
        places = placed(found.factors, found.config, backbone, found.where, without_head=bare)
        factors = places.layers
        require_outside(found, backbone)
        first = lowest_layer(factors, backbone.family)
        begins = first if first != spec.route_layer else None
        if first < spec.route_layer:
            remarks.append(_REACHES.format(first, spec.route_layer))
        head = None if request.fit_head else head_of(found, backbone, places)
        if request.fit_head and (found.saved or found.own_head):
            remarks.append("the head that it brought is left out, and another one fitted")
        if head is None and not found.saved and found.config.saved and not request.fit_head:
            remarks.append(_LOST.format(", ".join(found.config.saved)))
        if head is None and places.dense is not None:
            remarks.append(f"its change of the pooler is left out: {_NO_HEAD}")
        if places.beside:
            remarks.append(f"its change of {few(places.beside)} is left out: {_NO_HEAD}")
        if head is not None and naming.labels:
            require_outputs(head, KINDS.get(naming.task.kind), naming.labels, found.where)

    wish = AdapterConfig("lora", rank=lora_rank(found.factors), alpha=1.0)
    add = replace(request.add, task=naming.task, adapter=wish, tune=None)
    job = prepare(workspace, add, progress, fits)
    backbone = workspace.backbone
    if head is not None:
        require_outputs(head, KINDS.get(job.entry.task.kind), job.entry.task.labels, found.where)
    job = _as_it_is(job, factors, head, backbone, begins)
    trained = _expert(job, factors, head, naming, found, backbone, remarks, progress)
    warnings = (*job.entry.warnings, *remarks)
    job = replace(job, entry=replace(job.entry, warnings=warnings))
    done = measure(job, trained, backbone, progress)
    if head is not None:  # nothing was trained here
        done = replace(done, facts={**done.facts, "examples": 0, "epochs": 0})
    origin = {
        "adapter": found.digest,
        "base_model": without_folders(found.config.base_model),
        "revision": found.config.revision,
        "head": _head_from(found, head),
        "labels": naming.source,
        "with": package_versions(),
    }
    if found.own_head is not None:
        origin["expert"] = found.own_head.expert
    return PeftImported(commit(workspace, done, origin, progress=progress), origin)


def _head_from(found: PeftFolder, head: Head | None) -> HeadFrom:
    if head is None:
        return "fitted"
    return "saved" if found.own_head is None else "export"


def _as_it_is(
    job: AddJob, factors: Factors, head: Head | None, backbone: Backbone, first_layer: int | None
) -> AddJob:
    """The job with the adapter that it is about: what it adapts, and what its head reads."""
    start = f"{backbone.family.layers}."
    inside = sorted({path.removeprefix(start).partition(".")[2] for path in factors})
    pooling = backbone.family.pooling if head is None else head.pooling
    adapter = replace(
        job.entry.adapter, modules=tuple(inside), pooling=pooling, first_layer=first_layer
    )
    return replace(job, entry=replace(job.entry, adapter=adapter))


def expert_file(task: TaskRecord, adapter: TTAdapter, head: Head, spec: FeatureSpec) -> ExpertFile:
    """An adapter and a head as an expert's file; thresholds that are not there yet are zero."""
    tensors = {**adapter.to_tensors(), **head.tensors}
    if KINDS.get(task.kind).has_thresholds:
        tensors.setdefault("head.threshold", torch.zeros(head.outputs))
    return ExpertFile(
        task.name,
        task.kind,
        task.labels,
        LORA.name,
        adapter.facts(),
        adapter.alpha,
        spec.digest,
        spec.backbone_digest,
        tensors,
        head.pooling,
        scaled=head.scaled,
        dense=head.dense,
    )


def _expert(
    job: AddJob,
    factors: Factors,
    head: Head | None,
    naming: Named,
    found: PeftFolder,
    backbone: Backbone,
    remarks: list[str],
    progress: ProgressCallback,
) -> TrainedExpert:
    """The expert, its head fitted where it has none, its thresholds where it lacks them.

    Raises:
        InputError: nothing shows which of the head's outputs is which label.
    """
    started, task, spec = time.monotonic(), job.entry.task, job.backbone.feature_spec
    kind, adapter = KINDS.get(task.kind), LORA.of_factors(factors)
    epochs, best, score, tokens = 0, 0, float("nan"), 0
    if head is None:
        pooling = backbone.family.pooling
        fitted = fit_head(expert_job(job), factors, pooling, backbone, progress)
        epochs, best, score = fitted.epochs, fitted.best_epoch, fitted.score
        head, tokens = Head(fitted.tensors, pooling), fitted.tokens
        theirs = False
    else:
        theirs = True
    lacking = kind.has_thresholds and "head.threshold" not in head.tensors
    file = expert_file(task, adapter, head, spec)
    if theirs:
        served = file.collapse(job.entry.id, backbone.device, getattr(torch, spec.dtype))
        model = RoutedModel(backbone, spec, ExpertPool.holding({job.entry.id: served}))
        remarks += require_order(model, job, naming, found.where, progress)
        wanted = [row.target for row in job.train if row.target is not None]
        objective = kind.objective(task.labels, wanted)
        held = answers(model, job.selection, job.entry.id, progress)
        targets = torch.tensor(held.targets, dtype=torch.float32)
        score = objective.score(held.logits, targets)
        own = objective.thresholds(held.logits, targets) if lacking else None
        if own is not None:
            file = replace(file, tensors={**file.tensors, "head.threshold": own})
    rank_one = sum(len(a) + b.shape[1] for a, b in factors.values())
    return TrainedExpert(
        file,
        adapter.parameter_count,
        rank_one,
        file.head_params,
        epochs,
        best,
        score,
        (),
        time.monotonic() - started,
        tokens,
        0,
        0,
    )
