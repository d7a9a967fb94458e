"""``import``: take experts over from another bank's bundle, with their past.

Everything is read and checked before anything is written. Features and evidence come along, so
an imported expert can be routed to and reported on like one that was trained here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import (
    MALFORMED,
    ExistsError,
    FeatureSpecError,
    InputError,
    IntegrityError,
)
from expertbank.records import (
    BackboneRecord,
    ExpertRecord,
    ProgressCallback,
    ProgressEvent,
    TaskRecord,
    no_progress,
)
from expertbank.references import is_path
from expertbank.workflows.answering.serve import bundled_backbone
from expertbank.workflows.growing.grouping import require_fitting_group, require_free_names
from expertbank.workflows.growing.register import NewExpert, register
from expertbank.workflows.shipping.incoming import opened, read_experts
from expertbank.workflows.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Skipped:
    """An expert of the bundle that was not imported, and why."""

    expert: str
    why: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What was taken over, or would be.

    Attributes:
        bundle: digest of the bundle's manifest.
        imported: experts of this bank; in a dry run those that there would be.
        skipped: experts of the bundle that are here already.
        dry_run: whether nothing was written because only a look was asked for.
        remarks: what is odd about the bundle and yet no reason to refuse it.
    """

    bundle: str
    imported: tuple[ExpertRecord, ...]
    skipped: tuple[Skipped, ...]
    dry_run: bool
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The machine contract's form."""
        return {
            "bundle": self.bundle,
            "imported": [
                {"task": e.task, "id": e.id, "version": e.version, "digest": e.digest}
                for e in self.imported
            ],
            "skipped": [{"expert": s.expert, "why": s.why} for s in self.skipped],
            "dry_run": self.dry_run,
            "remarks": list(self.remarks),
        }


def import_bundle(
    workspace: Workspace,
    source: Path,
    *,
    tasks: Sequence[str] = (),
    new_version: bool = False,
    dry_run: bool = False,
    progress: ProgressCallback = no_progress,
) -> Imported:
    """Take experts over from a bundle that ``export --for-import`` wrote.

    A bank without a backbone takes over the bundle's backbone and feature spec.

    Args:
        workspace: the open bank.
        source: the bundle's folder, or a ``.zip`` file of it.
        tasks: only these tasks; default all.
        new_version: let an expert that differs become a further version of its task.
        dry_run: only check and tell.
        progress: told as experts are read.

    Raises:
        NotFoundError: no bundle there, or it does not hold a named task.
        IntegrityError: another backbone, or a file is not what the manifest says.
        FeatureSpecError: another feature spec than the bank's.
        ExistsError: a task has another expert here and ``new_version`` is false.
        InputError: the bundle has no features, the task is of another kind here, or its group holds
            tasks that do not read the same rows.
    """
    if not dry_run and workspace.exists:
        workspace.probe_writable()
    digest, content, members = opened(source)
    try:
        backbone = bundled_backbone(content, str(source))
        if workspace.exists:
            _require_same_backbone(workspace, backbone, source)
        spec = backbone.feature_spec
        incoming = read_experts(source, digest, content, members, spec, tasks, progress)
    except MALFORMED as error:
        raise IntegrityError(f"{source}: the manifest is malformed ({error!r})") from error
    wanted, skipped = [], []
    remarks = list(members.remarks)
    here = workspace.registry.tasks_as_read() if workspace.exists else ()
    tasks_by_name = {task.name: task for task in here}
    alive = _alive(workspace) if workspace.exists else {}
    for one in incoming:
        known = alive.get(one.expert.digest)
        if known is not None:
            mended = _put_back(workspace, one, dry_run=dry_run)
            beside = "; its file was gone, and is put back" if mended else ""
            skipped.append(Skipped(one.expert.id, f"is {known} here{beside}"))
        else:
            fitted, remark = _fitted(workspace, tasks_by_name, one, new_version=new_version)
            tasks_by_name[fitted.task.name] = fitted.task
            wanted.append(fitted)
            remarks += [remark] if remark else []
    remarks += _joined(here, [one.task for one in wanted], content)
    _require_one_grid(workspace, source, wanted)
    done = [one.expert for one in wanted]
    if not dry_run and wanted:
        if not workspace.exists or workspace.registry.backbone() is None:
            workspace.require_usable(workspace.store_url)
        inside = content["backbone"].get("folder")
        if is_path(backbone.reference) and inside and source.is_dir():
            backbone = replace(backbone, reference=str((source / str(inside)).resolve()))
        with workspace.making():
            if workspace.registry.backbone() is None:
                workspace.claim_store()
            workspace.registry.set_backbone(replace(backbone, store=workspace.store_url))
            require_free_names(workspace.registry, [one.task for one in wanted])
            done = []
            for one in wanted:
                done.append(register(workspace, one)[0])
                told = f"imported {done[-1].id}"
                progress(ProgressEvent("importing experts", len(done), len(wanted), lasting=told))
    return Imported(digest, tuple(done), tuple(skipped), dry_run, tuple(remarks))


def _require_same_backbone(workspace: Workspace, backbone: BackboneRecord, source: Path) -> None:
    record = workspace.registry.backbone()
    if record is None:
        return
    if record.digest != backbone.digest:
        raise IntegrityError(
            f"{source} was made with backbone {backbone.reference} (digest {backbone.digest}), "
            f"this bank with {record.reference} ({record.digest}); experts only work on the "
            "weights they were trained on: import into another bank with --home"
        )
    if record.feature_spec.digest != backbone.feature_spec.digest:
        ours, theirs = asdict(record.feature_spec), asdict(backbone.feature_spec)
        differing = [
            f"{key} {theirs[key]}, here {ours[key]}" for key in ours if ours[key] != theirs[key]
        ]
        raise FeatureSpecError(
            f"{source} follows another feature spec ({'; '.join(differing)}); all experts of a "
            "bank share it: import into another bank with --home"
        )


def _alive(workspace: Workspace) -> Mapping[str, str]:
    """Names of the experts of tasks that are alive, by the digest of their bytes."""
    alive = {task.name for task in workspace.registry.tasks()}
    own = [expert for expert in workspace.registry.experts() if expert.task in alive]
    return {expert.digest: expert.id for expert in reversed(own)}


def _put_back(workspace: Workspace, one: NewExpert, *, dry_run: bool) -> bool:
    """Store those files of an expert that is here again which are known here, and gone."""
    store, registry = workspace.store, workspace.registry
    by_digest = {sha256_bytes(data): data for data in one.files.values()}
    gone = [digest for digest in by_digest if store.state(digest) is None]
    known = {file.digest for file in registry.artifacts() if file.purged_at is None} if gone else {}
    missing = [digest for digest in gone if digest in known]
    if missing and not dry_run:
        with workspace.writing():
            for digest in missing:
                store.put(by_digest[digest])
    return bool(missing)


def _fitted(
    workspace: Workspace, known: Mapping[str, TaskRecord], one: NewExpert, *, new_version: bool
) -> tuple[NewExpert, str | None]:
    """``one`` as it comes in here, and what the user should know of its group.

    A task that is here keeps its group: the bank's user decides which tasks answer together.
    ``known`` are the tasks that are here, by name, and those of the bundle that come in before.

    Raises:
        ExistsError: the task has another expert and no new version was asked for, or a name is
            taken: by a group, or its group's by a task.
        InputError: the task is of another kind here, does not fit the tasks of its group, or is
            called as servers call the router.
    """
    name = one.task.name
    here, group, remark = known.get(name), one.task.group, None
    if here is not None and here.kind != one.task.kind:
        raise InputError(
            f"task {name} is {here.kind} here and {one.task.kind} in the bundle, which cannot "
            "change; leave it out by naming others with --task"
        )
    if here is not None and here.group != group:
        remark = _other_group(name, here.group, group)
        group = here.group
    task = replace(one.task, group=group)
    require_fitting_group(known, task)
    version = workspace.registry.next_version(name) if workspace.exists else 1
    if version > 1 and not new_version:
        raise ExistsError(
            f"task {name!r} has expert {name}@{version - 1}, with other weights than the bundle's "
            f"or removed; import it as {name}@{version} with --new-version, or leave it out by "
            "naming others with --task"
        )
    return replace(one, expert=replace(one.expert, version=version), task=task), remark


def _require_one_grid(workspace: Workspace, source: Path, wanted: Sequence[NewExpert]) -> None:
    """Refuse statistics that cannot be added to each other, or to those that are here.

    Raises:
        IntegrityError: they are of other numbers.
    """
    from expertbank.workflows.growing.statistics import grid_of, require_grid

    known = grid_of(workspace) if workspace.exists else None
    for one in wanted:
        grid = one.summed.statistics.grid
        require_grid(f"{source}: {one.expert.id}", grid, known)
        known = grid


def _joined(here: Sequence[TaskRecord], coming: Sequence[TaskRecord], content: Any) -> list[str]:
    """What to say of groups of the bundle that the bank has too, with tasks of its own."""
    known = {task.name for task in here}
    theirs = {(str(entry["task"]), entry["group"]) for entry in content["experts"]}
    remarks = []
    for group in sorted({task.group for task in coming if task.group and task.name not in known}):
        own = [task.name for task in here if task.group == group and task.removed_at is None]
        own = [name for name in own if (name, group) not in theirs]
        new = [task.name for task in coming if task.group == group and task.name not in known]
        if own:
            remarks.append(
                f"group {group} has {', '.join(own)} here; {', '.join(new)} of the bundle's group "
                f"{group} join it, and answer the same texts: expertbank group --ungroup "
                f"{' '.join(new)} changes that"
            )
    return remarks


def _other_group(task: str, here: str | None, there: str | None) -> str:
    stands = f"stays in group {here}" if here else "stays alone"
    change = f"group {there} {task}" if there else f"group --ungroup {task}"
    bundle = f"in group {there}" if there else "alone"
    return f"task {task} {stands}; it is {bundle} in the bundle: expertbank {change} changes that"
