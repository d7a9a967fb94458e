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
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.config import FeatureSpec
from expertbank.data import TaskSpec
from expertbank.errors import InputError, IntegrityError, NotFoundError, StaleError
from expertbank.files.paths import given_path
from expertbank.kinds import KINDS
from expertbank.models.expert_file import ExpertFile
from expertbank.models.routed import RoutedModel
from expertbank.records import BackboneRecord
from expertbank.routing.router import Router
from expertbank.workflows.answering.decision import Answerer
from expertbank.workflows.answering.predict import Predictor
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
    path = given_path(path, "the bundle")
    if backbone == "":
        raise InputError("the backbone must not be empty; leave it out for the recorded one")
    reader = BundleReader(path)
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
        recorded = str(path / str(inside)) if inside else record.reference
        found = recorded if backbone is None else backbone
        loaded = load_backbone(
            found,
            revision=record.revision_of(found),
            device=device,
            dtype=spec.dtype,
            record=record,
        )
    require_backbone(loaded, spec.backbone_digest, f"the bundle at {path}")
    entries = {entry.digest: entry for entry in reader.manifest.experts}
    if any(
        member.digest not in entries or entries[member.digest].id != member.id
        for member in router.members
    ):
        raise IntegrityError(f"{path}: the router names experts that the bundle does not hold")
    if router.feature_spec_digest != spec.digest:
        raise IntegrityError(f"{path}: the router was fitted under another feature spec")
    # Every file is hashed now; an expert is read, checked again and kept only when needed.
    for entry in reader.manifest.experts:
        if sha256_bytes(reader.read(entry.file)) != entry.digest:
            raise IntegrityError(f"{path}: {entry.file} is not the expert {entry.digest}")

    def load(digest: str) -> CollapsedExpert:
        file = _bundled_expert(reader, entries[digest], spec)
        return file.collapse(digest, loaded.device, getattr(torch, spec.dtype))

    experts = _BundledExperts(
        reader, {member.task: entries[member.digest] for member in router.members}
    )
    return Predictor(RoutedModel(loaded, spec, ExpertPool(load)), experts, router)


@dataclass(frozen=True, slots=True)
class _BundledExperts:
    """The experts of a bundle, as the manifest told of them when it was opened."""

    reader: BundleReader
    by_task: Mapping[str, BundledExpert]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(sorted(self.by_task))

    def named(self, task: str) -> Answerer:
        if task not in self.by_task:
            raise NotFoundError.of("task", task, self.tasks)
        entry = self.by_task[task]
        return Answerer(entry.id, entry.digest, entry.task, entry.kind, entry.labels)

    def data_spec(self, expert: Answerer) -> TaskSpec:
        KINDS.get(expert.kind)  # says its name, where it is not installed
        for entry in self.reader.manifest.content["experts"]:
            if entry["digest"] == expert.digest:
                return TaskSpec.from_dict(entry.get("spec"), f"{self.reader.folder}: {expert.id}")
        raise NotFoundError.of("task in the bundle", expert.task, self.tasks)


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
        **{
            name: str(told[name]) for name in ("revision", "identity") if told.get(name) is not None
        },
    )
    if record.digest != record.feature_spec.backbone_digest:
        raise IntegrityError(f"{where}: its feature spec is of another backbone than it names")
    return record


def _text(told: object) -> str | None:
    return None if told is None else str(told)


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


def bank_predictor(workspace: Workspace, earlier: Predictor | None = None) -> Predictor:
    """The bank's own predictor: the active router, and the newest expert of every task.

    Args:
        workspace: the open bank.
        earlier: given back where it would answer just the same: by its model and by the router's
            digest. Names and counts prove nothing: a restored bank gives them out again.

    Raises:
        NotFoundError: no expert yet.
        StaleError: the bank was restored at this very moment.
    """
    registry = workspace.registry
    if not registry.has_members():
        raise NotFoundError("the bank has no expert yet; first run: expertbank add --task T")
    try:
        record = registry.router()
    except NotFoundError:
        record = None
    model, digest = workspace.model, None if record is None else record.digest
    if earlier is not None and earlier.model is model and earlier.router_digest == digest:
        return earlier
    router = None if record is None else workspace.router(record)
    if router is not None and router.feature_spec_digest != model.spec.digest:
        raise StaleError("the bank changed while it was opened; run the command again")
    return Predictor(model, _BankExperts(workspace), router, digest)


@dataclass(frozen=True, slots=True)
class _BankExperts:
    """The experts of a bank, looked up as they are needed; none is remembered by its name."""

    workspace: Workspace

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.workspace.registry.member_tasks()

    def named(self, task: str) -> Answerer:
        newest = self.workspace.registry.member(task)
        return Answerer(newest.id, newest.digest, newest.task, newest.kind, newest.labels)

    def data_spec(self, expert: Answerer) -> TaskSpec:
        record = self.workspace.registry.expert(expert.id)
        if record.digest != expert.digest:
            raise StaleError(f"{expert.id} is another expert now; run the command again")
        return self.workspace.data_of(record)[0]


def _bundled_expert(reader: BundleReader, entry: BundledExpert, spec: FeatureSpec) -> ExpertFile:
    where = f"{reader.folder}: {entry.id}"
    try:
        data = reader.read(entry.file)
    except (IntegrityError, OSError) as error:
        raise IntegrityError(
            f"{where} cannot be loaded any more ({error}); if the bundle was replaced since it was "
            "opened, open it again"
        ) from error
    file = ExpertFile.from_bytes(data, where)
    if sha256_bytes(data) != entry.digest:
        raise IntegrityError(f"{where}: the file is not the expert {entry.digest}")
    if (file.task, file.kind, file.labels) != (entry.task, entry.kind, entry.labels):
        raise IntegrityError(f"{where}: task, kind or labels differ from the manifest's")
    if (file.backbone_digest, file.feature_spec_digest) != (spec.backbone_digest, spec.digest):
        raise IntegrityError(f"{where}: trained on another backbone or feature spec")
    return file
