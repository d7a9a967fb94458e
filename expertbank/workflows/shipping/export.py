"""``export``: one verified folder that predicts without the bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from expertbank.artifacts.bundle import ROUTER, BundleReader, BundleWriter
from expertbank.artifacts.listed import BACKBONE_FOLDER
from expertbank.artifacts.noise import AS_THEY_ARE, GITATTRIBUTES
from expertbank.artifacts.store import sha256_bytes
from expertbank.backbones.identity import backbone_files, public_name
from expertbank.data import encode_rows
from expertbank.errors import InputError, IntegrityError, NotFoundError, ReadOnlyError
from expertbank.files.paths import storable
from expertbank.kinds import KINDS
from expertbank.records import (
    ExpertRecord,
    ExportRecord,
    ProgressCallback,
    ProgressEvent,
    RouterRecord,
    Row,
    no_progress,
)
from expertbank.reports.bundle_readme import bundle_readme
from expertbank.routing.router import Router
from expertbank.workflows.answering.serve import load_bundle
from expertbank.workflows.environment import package_versions
from expertbank.workflows.measure import answers
from expertbank.workflows.presence import require_kept, require_router
from expertbank.workflows.shipping.for_import import add_lineage
from expertbank.workflows.workspace import Workspace

PROBES = (
    Row("The referee stopped the match after ninety minutes of rain."),
    Row("is the sky blue", "Rayleigh scattering sends short wavelengths in all directions."),
    Row("Shares of the bank rose by four per cent on Monday, its best day this year.", None),
    Row("do you share my data", "We never sell personal information to third parties."),
    Row("Tracy had an accident on the way to work.", None, ("She was late.", "She sang.")),
    Row("Where would you keep milk?", None, ("in a drawer", "in the fridge", "on the roof")),
)
"""Rows on which a written bundle must give the bank's logits, bit for bit, before it is called
done. What they say does not matter; that every shape of row occurs does."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written.

    ``recorded`` is false for a read-only bank, whose history cannot tell of the export.
    ``effects`` says of every adapter what it does in the model that readers load.
    """

    path: Path
    digest: str
    experts: tuple[str, ...]
    router_version: int
    bytes: int
    format: str = "bundle"
    verified: bool = True
    recorded: bool = True
    effects: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The machine contract's form."""
        return {
            "path": str(self.path),
            "format": self.format,
            "digest": self.digest,
            "experts": list(self.experts),
            "router": self.router_version,
            "bytes": self.bytes,
            "verified": self.verified,
            "recorded": self.recorded,
            **({"effects": list(self.effects)} if self.effects else {}),
        }


def export_bundle(
    workspace: Workspace,
    target: Path,
    *,
    tasks: Sequence[str] = (),
    with_backbone: bool = False,
    for_import: bool = False,
    statistics: bool = False,
    progress: ProgressCallback = no_progress,
) -> ExportResult:
    """Write the active router and its experts to ``target``, load them back, compare, publish.

    Args:
        workspace: the open bank.
        target: folder to make; an older bundle there is replaced, anything else is not touched.
        tasks: only these tasks; the router is masked to them.
        with_backbone: put the backbone's files into the bundle too.
        for_import: put features, evidence and runs in, so that another bank can take the experts
            over; features are made from the rows they were trained on.
        statistics: with ``for_import``: sums over rows in place of features, and no row.
        progress: told as work goes on.

    Raises:
        NotFoundError: no router yet, or an unknown task.
        InputError: an adapter elsewhere answers a task, and it is not for import.
        ExistsError: ``target`` is something else than a bundle.
        IntegrityError: what was written does not give the bank's logits; nothing is published.
    """
    record, shipped, masked = chosen(workspace, tasks)
    if not for_import:
        require_weights(shipped)
    experts = [workspace.registry.expert(member.id) for member in shipped.members]
    writer = BundleWriter(target)  # what cannot be written is told before the backbone is loaded
    try:
        backbone = workspace.backbone
        for expert in experts:
            writer.add(_expert_name(expert), workspace.store.get(expert.digest))
        router_bytes = shipped.to_bytes()
        writer.add(ROUTER, router_bytes)
        if with_backbone:
            for file in backbone_files(backbone.place.path):
                writer.add(f"{BACKBONE_FOLDER}/{file.name}", file.read_bytes())
        lineage = (
            {
                e.id: {"lineage": add_lineage(writer, workspace, e, statistics=statistics)}
                for e in experts
            }
            if for_import
            else {}
        )
        content = _manifest(
            workspace,
            experts,
            shipped,
            sha256_bytes(router_bytes),
            fitted=record,
            masked=masked,
            with_backbone=with_backbone,
        )
        for entry in content["experts"]:
            entry |= lineage.get(entry["id"], {})
        writer.add("README.md", bundle_readme(content).encode())
        writer.add(GITATTRIBUTES, AS_THEY_ARE)
        digest = writer.finish(content)
        _compare(workspace, writer.folder, experts, with_backbone, progress)
        size = sum(path.stat().st_size for path in writer.folder.rglob("*") if path.is_file())
        publish(writer, progress)
    finally:
        writer.discard()
    ids = tuple(expert.id for expert in experts)
    made = ExportRecord(digest, "bundle", storable(writer.target), record.version, ids)
    recorded = record_export(workspace, made)
    return ExportResult(writer.target, digest, ids, record.version, size, recorded=recorded)


def publish(writer: BundleWriter, progress: ProgressCallback) -> None:
    """Give what was written its name, and tell that it has it."""
    writer.publish()
    told = f"{writer.target} was written"
    progress(ProgressEvent("publishing", 1, 1, lasting=told))


def record_export(workspace: Workspace, made: ExportRecord) -> bool:
    """Put an export into the history; false for a bank that cannot be written to."""
    if workspace.registry.read_only:
        return False
    try:
        with workspace.writing():
            workspace.registry.commit_export(made)
    except ReadOnlyError:  # a server tells with the first write what its user may do
        return False
    return True


def chosen(workspace: Workspace, tasks: Sequence[str]) -> tuple[RouterRecord, Router, bool]:
    """What an export ships: the active router, cut to ``tasks`` if any are named.

    Returns:
        The router's record, the router as shipped, and whether members were left out.

    Raises:
        NotFoundError: no router yet, a task that it does not serve, or one whose files were purged.
        IntegrityError: a file of the router's or of one of its experts is gone.
    """
    try:
        record = workspace.registry.router()
    except NotFoundError as error:
        raise NotFoundError("there is no router to ship; run: expertbank retrain-router") from error
    router = workspace.router(record)
    known = [member.task for member in router.members]
    for task in tasks:
        if task not in known:
            raise NotFoundError.of("task", task, known)
    require_kept(workspace, record, tasks)
    require_router(workspace, record, tasks)
    shipped = router.subset(tasks) if tasks else router
    return record, shipped, len(shipped.members) < len(known)


def require_weights(shipped: Router) -> None:
    """Refuse to ship what is answered elsewhere: whoever gets it would have no answer.

    Raises:
        InputError: a member is; the message names the tasks that are not.
    """
    without = [one.id for one in shipped.members if KINDS.get(one.kind).elsewhere]
    if not without:
        return
    own = [one.task for one in shipped.members if one.id not in without]
    rest = f"leave them out with {' '.join(f'--task {task}' for task in own)}, or " if own else ""
    raise InputError(
        f"adapters of another program answer {', '.join(without)}, and the bank has no weights of "
        f"them to ship; {rest}take them to another bank with --for-import"
    )


def _expert_name(expert: ExpertRecord) -> str:
    return f"experts/{expert.digest}.safetensors"


def _manifest(
    workspace: Workspace,
    experts: Sequence[ExpertRecord],
    router: Router,
    router_digest: str,
    *,
    fitted: RouterRecord,
    masked: bool,
    with_backbone: bool,
) -> dict[str, Any]:
    record, registry = workspace.backbone_record, workspace.registry
    named = record.named()
    if with_backbone:  # whoever receives it needs no path of this machine
        named["reference"] = public_name(record.reference, workspace.backbone.place.path)
    # The groups of the router that is shipped, whatever the bank's next one will go by.
    group_of = fitted.group_of
    entries = []
    for expert in experts:
        (oracle,) = registry.evaluations(expert.id, router_version="oracle")
        entries.append(
            {
                "id": expert.id,
                "task": expert.task,
                "version": expert.version,
                "digest": expert.digest,
                "kind": expert.kind,
                "labels": list(expert.labels),
                "file": _expert_name(expert),
                "adapter_params": expert.adapter_params,
                "head_params": expert.head_params,
                "created_at": expert.created_at,
                "metrics": dict(oracle.metrics),
                "group": group_of.get(expert.task),
                "spec": workspace.data_of(expert)[0].to_dict(),
            }
        )
    return {
        "made_with": package_versions(),
        "backbone": {
            **named,
            "architecture": dict(record.architecture),
            "folder": BACKBONE_FOLDER if with_backbone else None,
        },
        "feature_spec": record.feature_spec.to_dict(),
        "router": {
            "file": ROUTER,
            "digest": router_digest,
            "version": fitted.version,
            "kind": router.kind,
            "members": [member.id for member in router.members],
            "masked": masked,
        },
        "experts": entries,
    }


def _compare(
    workspace: Workspace,
    folder: Path,
    experts: Sequence[ExpertRecord],
    with_backbone: bool,
    progress: ProgressCallback,
) -> None:
    """Load what was written and hold its logits against the bank's.

    Raises:
        IntegrityError: a logit differs.
    """
    BundleReader(folder).check_all()
    # A shipped backbone is loaded from the bundle's own files, else the bank's serves again.
    loaded = load_bundle(folder, backbone=None if with_backbone else workspace.backbone)
    tokenizer, length = workspace.backbone.tokenizer, workspace.spec.max_length
    for expert in experts:
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
