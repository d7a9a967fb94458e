"""Predictors, from a bank or from a bundle: where one is made ready to answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from expertbank.adapters.pool import CollapsedExpert, ExpertPool
from expertbank.artifacts.bundle import BACKBONE_FOLDER, BundledExpert, BundleReader
from expertbank.artifacts.store import sha256_bytes
from expertbank.config import FeatureSpec
from expertbank.errors import IntegrityError, NotFoundError
from expertbank.models.backbone import Backbone, load_backbone
from expertbank.models.expert_file import ExpertFile
from expertbank.models.gates import Router
from expertbank.models.routed import RoutedModel
from expertbank.records import BackboneRecord
from expertbank.registry.registry import Registry
from expertbank.tasks import TaskSpec
from expertbank.workflows.predict import Answerer, Predictor
from expertbank.workflows.workspace import Workspace, now, require_backbone


def load_bundle(
    path: str | Path,
    *,
    backbone: str | Backbone | None = None,
    device: str | None = None,
) -> Predictor:
    """Open a bundle for prediction; no bank is needed.

    Args:
        path: the bundle's folder.
        backbone: a loaded backbone, or where to find it; default the folder inside the bundle
            if there is one, else the reference in the manifest.
        device: where to run; default as ``load_backbone``.

    Raises:
        NotFoundError: no bundle there.
        IntegrityError: a file or the backbone is not what the manifest says.
        SourceUnavailableError: the backbone cannot be had.
    """
    reader = BundleReader(Path(path))
    content = reader.manifest.content
    try:
        record = bundled_backbone(content, str(path))
        spec = record.feature_spec
        inside = content["backbone"]["folder"]
        asked = content["router"]["file"]
    except (KeyError, TypeError) as error:
        raise IntegrityError(f"{path}: the manifest is malformed ({error!r})") from error
    reader.check_all()
    router = Router.from_bytes(reader.read(str(asked)), f"{path}: router")
    if isinstance(backbone, Backbone):
        loaded = backbone.named_as(record)
    else:
        if inside is not None:
            _check_folder(reader, str(inside))
        found = backbone or (str(Path(path) / str(inside)) if inside else record.reference)
        loaded = load_backbone(
            found,
            revision=record.revision_of(found),
            device=device,
            dtype=spec.dtype,
            record=record,
        )
    require_backbone(loaded, spec.backbone_digest, f"the bundle at {path}")
    entries = {entry.id: entry for entry in reader.manifest.experts}
    if any(
        member.id not in entries or entries[member.id].digest != member.digest
        for member in router.members
    ):
        raise IntegrityError(f"{path}: the router names experts that the bundle does not hold")
    if router.feature_spec_digest != spec.digest:
        raise IntegrityError(f"{path}: the router was fitted under another feature spec")
    # Every file is hashed now; an expert is read, checked again and kept only when needed.
    for entry in reader.manifest.experts:
        if sha256_bytes(reader.read(entry.file)) != entry.digest:
            raise IntegrityError(f"{path}: {entry.file} is not the expert {entry.digest}")

    def load(expert_id: str) -> CollapsedExpert:
        file = _bundled_expert(reader, entries[expert_id], spec)
        return file.collapse(expert_id, loaded.device, getattr(torch, spec.dtype))

    named = {member.task: member.id for member in router.members}
    experts = _BundledExperts(reader, spec, entries, named)
    return Predictor(RoutedModel(loaded, spec, ExpertPool(load)), experts, router)


@dataclass(frozen=True, slots=True)
class _BundledExperts:
    """The experts of a bundle, each file's own words held against the manifest's."""

    reader: BundleReader
    spec: FeatureSpec
    entries: Mapping[str, BundledExpert]
    by_task: Mapping[str, str]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(sorted(self.by_task))

    def named(self, task: str) -> Answerer:
        if task not in self.by_task:
            raise NotFoundError.of("task", task, self.tasks)
        return self.answerer(self.by_task[task])

    def answerer(self, expert_id: str) -> Answerer:
        file = _bundled_expert(self.reader, self.entries[expert_id], self.spec)
        return Answerer(expert_id, file.task, file.kind, file.labels)


def bundled_backbone(content: Mapping[str, Any], where: str) -> BackboneRecord:
    """What a bundle's manifest says of the backbone; bundles of 0.1 say less.

    Raises:
        KeyError: something is missing from the manifest.
        TypeError: something in it is not what it should be.
        IntegrityError: its feature spec is of another backbone than it names.
    """
    told = content["backbone"]
    record = BackboneRecord(
        str(told["digest"]),
        str(told["reference"]),
        dict(told["architecture"]),
        FeatureSpec.from_dict(content["feature_spec"]),
        now(),
        *(None if told.get(name) is None else str(told[name]) for name in ("revision", "identity")),
    )
    if record.digest != record.feature_spec.backbone_digest:
        raise IntegrityError(f"{where}: its feature spec is of another backbone than it names")
    return record


def _check_folder(reader: BundleReader, folder: str) -> None:
    """The shipped backbone's folder holds exactly the listed files, all of them as listed."""
    if folder != BACKBONE_FOLDER:
        raise IntegrityError(f"{reader.folder}: {folder!r} is not where a bundle keeps a backbone")
    listed = {name for name in reader.members if name.startswith(f"{BACKBONE_FOLDER}/")}
    root = reader.folder / BACKBONE_FOLDER
    found = {path.relative_to(reader.folder).as_posix() for path in root.rglob("*")}
    if found != listed:
        odd = sorted(found ^ listed)
        raise IntegrityError(f"{root}: files do not match the manifest: {', '.join(odd[:5])}")


def bundled_task(path: str | Path, task: str) -> TaskSpec:
    """The spec of one task of a bundle: how to read labelled rows of it.

    Raises:
        NotFoundError: no such task in the bundle.
        IntegrityError: the manifest is malformed.
    """
    reader = BundleReader(Path(path))
    for entry in reader.manifest.content["experts"]:
        if entry["task"] == task:
            return TaskSpec.from_dict(entry.get("spec"), f"{path}: {task}")
    known = [expert.task for expert in reader.manifest.experts]
    raise NotFoundError.of("task in the bundle", task, known)


def bank_predictor(workspace: Workspace) -> Predictor:
    """The bank's own predictor: the active router, and the newest expert of every task."""
    registry = workspace.registry
    try:
        router = workspace.router(registry.router())
    except NotFoundError:
        router = None
    if not registry.has_members():
        raise NotFoundError("the bank has no expert yet; first run: expertbank add --task T")
    return Predictor(workspace.model, _BankExperts(registry), router)


@dataclass(frozen=True, slots=True)
class _BankExperts:
    """The experts of a bank, looked up as they are needed."""

    registry: Registry

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.registry.member_tasks()

    def named(self, task: str) -> Answerer:
        newest = self.registry.member(task)
        return Answerer(newest.id, newest.task, newest.kind, newest.labels)

    def answerer(self, expert_id: str) -> Answerer:
        expert = self.registry.expert(expert_id)
        return Answerer(expert.id, expert.task, expert.kind, expert.labels)


def _bundled_expert(reader: BundleReader, entry: BundledExpert, spec: FeatureSpec) -> ExpertFile:
    data = reader.read(entry.file)
    where = f"{reader.folder}: {entry.id}"
    file = ExpertFile.from_bytes(data, where)
    if sha256_bytes(data) != entry.digest:
        raise IntegrityError(f"{where}: the file is not the expert {entry.digest}")
    if (file.task, file.labels) != (entry.task, entry.labels):
        raise IntegrityError(f"{where}: task or labels differ from the manifest's")
    if (file.backbone_digest, file.feature_spec_digest) != (spec.backbone_digest, spec.digest):
        raise IntegrityError(f"{where}: trained on another backbone or feature spec")
    return file
