"""Predictors, from a bank or from a bundle: where one is made ready to answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.stack import CollapsedExpert
from expertbank.artifacts.bundle import BundledExpert, BundleReader
from expertbank.artifacts.listed import BACKBONE_FOLDER
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.clock import now
from expertbank.config import FeatureSpec
from expertbank.errors import MALFORMED, InputError, IntegrityError, StaleError
from expertbank.files.paths import given_path
from expertbank.models.expert_file import ExpertFile
from expertbank.models.routed import RoutedModel
from expertbank.records import BackboneRecord
from expertbank.routing.router import Router
from expertbank.workflows.active_router import active_router
from expertbank.workflows.answering.experts import BankExperts, BundledExperts, Experts
from expertbank.workflows.answering.predict import Predictor
from expertbank.workflows.held_backbone import require_backbone
from expertbank.workflows.none_alive import no_expert
from expertbank.workflows.workspace import Workspace


def load_bundle(
    path: str | Path,
    *,
    backbone: str | Backbone | None = None,
    device: str | None = None,
) -> Predictor:
    """Open a bundle for prediction; no bank is needed.

    What is not loaded may have changed since the export, and files may lie beside it: the
    predictor's ``remarks`` say so.

    Args:
        path: the bundle's folder.
        backbone: a loaded backbone, or where to find it; default the folder inside the bundle
            if there is one, else the reference in the manifest.
        device: where to run; default as ``load_backbone``.

    Raises:
        NotFoundError: no bundle there.
        IntegrityError: a file or the backbone is not what the manifest says.
        SourceUnavailableError: the backbone cannot be had.
        ExpertBankError: a file cannot be read.
    """
    return open_bundle(path).predictor(backbone, device)


@dataclass(frozen=True, slots=True)
class OpenBundle:
    """A bundle whose files are checked and whose backbone is not loaded yet.

    Attributes:
        reader: of its files.
        record: the backbone it is made for.
        router: its router.
        experts: who may be named to answer.
        inside: its backbone's folder, if it holds one.
        remarks: what about it changed since the export and does not matter.
    """

    reader: BundleReader
    record: BackboneRecord
    router: Router
    experts: Experts
    inside: str | None
    remarks: tuple[str, ...]

    def predictor(
        self, backbone: str | Backbone | None = None, device: str | None = None
    ) -> Predictor:
        """Load the backbone; arguments and errors are those of ``load_bundle``."""
        if backbone == "":
            raise InputError("the backbone must not be empty; leave it out for the recorded one")
        record, spec, reader = self.record, self.record.feature_spec, self.reader
        if isinstance(backbone, Backbone):
            loaded = backbone.named_as(record)
        else:
            if self.inside is not None:
                reader.require_backbone()
            own = str(reader.folder / self.inside) if self.inside else record.reference
            found = own if backbone is None else backbone
            loaded = load_backbone(
                found,
                revision=record.revision_of(found),
                device=device,
                dtype=spec.dtype,
                record=record,
            )
        require_backbone(loaded, spec.backbone_digest, f"the bundle at {reader.folder}")
        entries = {entry.digest: entry for entry in reader.manifest.experts}

        def load(digest: str) -> CollapsedExpert:
            file = _bundled_expert(reader, entries[digest], spec)
            return file.collapse(digest, loaded.device, getattr(torch, spec.dtype))

        model = RoutedModel(loaded, spec, ExpertPool(load))
        return Predictor(model, self.experts, self.router, remarks=self.remarks)


def open_bundle(path: str | Path) -> OpenBundle:
    """Open a bundle and check its files.

    Raises:
        NotFoundError: no bundle there.
        IntegrityError: a file is not what the manifest says.
        ExpertBankError: a file cannot be read.
    """
    path = given_path(path, "the bundle")
    reader = BundleReader(path)
    content = reader.manifest.content
    try:
        record = bundled_backbone(content, str(path))
        inside = content["backbone"]["folder"]
        asked = content["router"]["file"]
    except MALFORMED as error:
        raise IntegrityError(f"{path}: the manifest is malformed ({error!r})") from error
    if inside not in {None, BACKBONE_FOLDER}:
        raise IntegrityError(f"{path}: {inside!r} is not where a bundle keeps a backbone")
    remarks = reader.check_all()
    router = Router.from_bytes(reader.read(str(asked)), f"{path}: router")
    entries = {entry.digest: entry for entry in reader.manifest.experts}
    if any(
        member.digest not in entries or entries[member.digest].id != member.id
        for member in router.members
    ):
        raise IntegrityError(f"{path}: the router names experts that the bundle does not hold")
    if router.feature_spec_digest != record.feature_spec.digest:
        raise IntegrityError(f"{path}: the router was fitted under another feature spec")
    # Every file was hashed; an expert is read, checked again and kept only when needed.
    for entry in reader.manifest.experts:
        if reader.digest_of(entry.file) != entry.digest:
            raise IntegrityError(f"{path}: {entry.file} is not the expert {entry.digest}")
    experts = BundledExperts(
        reader, {member.task: entries[member.digest] for member in router.members}
    )
    return OpenBundle(reader, record, router, experts, inside, remarks)


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


def bank_predictor(workspace: Workspace, earlier: Predictor | None = None) -> Predictor:
    """The bank's own predictor: the active router, and the newest expert of every task.

    Args:
        workspace: the open bank.
        earlier: given back where it would answer just the same: by its model and by the router's
            digest. Names and counts prove nothing: a restored bank gives them out again.

    Raises:
        NotFoundError: no live expert.
        StaleError: the bank was restored at this very moment.
    """
    registry = workspace.registry
    if not registry.has_members():
        raise no_expert(registry)
    record = active_router(registry)
    model, digest = workspace.model, None if record is None else record.digest
    if earlier is not None and earlier.model is model and earlier.router_digest == digest:
        return earlier
    router = None if record is None else workspace.router(record)
    if router is not None and router.feature_spec_digest != model.spec.digest:
        raise StaleError("the bank changed while it was opened; run the command again")
    return Predictor(model, BankExperts(workspace), router, digest)


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
    if (file.task, file.kind, file.labels) != (entry.task, entry.kind, entry.labels):
        raise IntegrityError(f"{where}: task, kind or labels differ from the manifest's")
    if (file.backbone_digest, file.feature_spec_digest) != (spec.backbone_digest, spec.digest):
        raise IntegrityError(f"{where}: trained on another backbone or feature spec")
    return file
