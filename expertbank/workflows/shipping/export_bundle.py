"""``export`` of a bundle: experts and a router that predict without the bank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from expertbank.artifacts.bundle import ROUTER, BundleReader, BundleWriter
from expertbank.artifacts.listed import BACKBONE_FOLDER
from expertbank.artifacts.noise import AS_THEY_ARE, GITATTRIBUTES
from expertbank.artifacts.store import sha256_bytes
from expertbank.backbones.identity import backbone_files, public_name
from expertbank.config import ExportFormat
from expertbank.data import encode_rows
from expertbank.errors import IntegrityError
from expertbank.kinds import KINDS
from expertbank.records import ExpertRecord, ProgressCallback
from expertbank.reports.bundle_readme import bundle_readme
from expertbank.workflows.answering.serve import load_bundle
from expertbank.workflows.environment import package_versions
from expertbank.workflows.measure import answers
from expertbank.workflows.shipping.export import PROBES, Extras, Shipped, named
from expertbank.workflows.shipping.for_import import add_lineage


class Bundle:
    """The active router and its experts, that give the bank's logits bit for bit."""

    name: ExportFormat = "bundle"

    def __init__(self, extras: Extras) -> None:
        self._extras = extras

    @property
    def needs_weights(self) -> bool:
        """Not for another bank, which can route to them."""
        return not self._extras.for_import

    def write(self, shipped: Shipped, writer: BundleWriter) -> dict[str, Any]:
        """Experts, router, and what else is wanted.

        Raises:
            NotFoundError: features to take along were deleted.
            InputError: statistics are wanted of an expert whose evidence is texts.
        """
        workspace = shipped.workspace
        place = workspace.backbone.place.path
        for expert in shipped.experts:
            writer.add(_file(expert), workspace.store.get(expert.digest))
        router_bytes = shipped.router.to_bytes()
        writer.add(ROUTER, router_bytes)
        if self._extras.with_backbone:
            for file in backbone_files(place):
                writer.add(f"{BACKBONE_FOLDER}/{file.name}", file.read_bytes())
        writer.add(GITATTRIBUTES, AS_THEY_ARE)
        record = workspace.backbone_record
        backbone = record.named()
        if self._extras.with_backbone:  # whoever receives it needs no path of this machine
            backbone["reference"] = public_name(record.reference, place)
        content = {
            "made_with": package_versions(),
            "backbone": {
                **backbone,
                "architecture": dict(record.architecture),
                "folder": BACKBONE_FOLDER if self._extras.with_backbone else None,
            },
            "feature_spec": record.feature_spec.to_dict(),
            "router": {
                "file": ROUTER,
                "digest": sha256_bytes(router_bytes),
                "version": shipped.record.version,
                "kind": shipped.router.kind,
                "members": [member.id for member in shipped.router.members],
                "masked": shipped.masked,
            },
            "experts": [self._entry(shipped, writer, expert) for expert in shipped.experts],
        }
        writer.add("README.md", bundle_readme(content).encode())
        return content

    def _entry(
        self, shipped: Shipped, writer: BundleWriter, expert: ExpertRecord
    ) -> dict[str, Any]:
        workspace = shipped.workspace
        (oracle,) = workspace.registry.evaluations(expert.id, router_version="oracle")
        entry = {
            **named(expert),
            "file": _file(expert),
            "adapter_params": expert.adapter_params,
            "head_params": expert.head_params,
            "created_at": expert.created_at,
            "metrics": dict(oracle.metrics),
            # Of the router that is shipped, whatever the bank's next one will go by.
            "group": shipped.record.group_of.get(expert.task),
            "spec": workspace.data_of(expert)[0].to_dict(),
        }
        if self._extras.for_import:
            statistics = self._extras.statistics
            entry["lineage"] = add_lineage(writer, workspace, expert, statistics=statistics)
        return entry

    def compare(
        self, shipped: Shipped, folder: Path, progress: ProgressCallback
    ) -> tuple[dict[str, Any], ...]:
        """Load what was written and hold its logits against the bank's.

        Raises:
            IntegrityError: a logit differs.
        """
        workspace = shipped.workspace
        BundleReader(folder).check_all()
        # A shipped backbone is loaded from the bundle's own files, else the bank's serves again.
        own = None if self._extras.with_backbone else workspace.backbone
        loaded = load_bundle(folder, backbone=own)
        tokenizer, length = workspace.backbone.tokenizer, workspace.spec.max_length
        for expert in shipped.experts:
            kind = KINDS.get(expert.kind)
            rows = [row for row in PROBES if row.shape in kind.shapes]
            probes = encode_rows(rows, tokenizer, kind, expert.labels, length)
            ours = answers(workspace.model, probes, expert.digest, progress)
            theirs = answers(loaded.model, probes, expert.digest, progress)
            if not torch.equal(ours.logits, theirs.logits) or ours.texts != theirs.texts:
                raise IntegrityError(
                    f"the written bundle gives other logits for {expert.id} than the bank; "
                    "nothing was published"
                )
        return ()


def _file(expert: ExpertRecord) -> str:
    return f"experts/{expert.digest}.safetensors"
