"""A bundle that comes in: its experts with their past, read and checked; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from expertbank.artifacts.archive import BundleArchive
from expertbank.artifacts.bundle import BundleReader
from expertbank.artifacts.store import sha256_bytes
from expertbank.clock import now
from expertbank.config import FeatureSpec
from expertbank.data import TaskSpec
from expertbank.data.spec import check_task_name
from expertbank.errors import InputError, IntegrityError, NotFoundError
from expertbank.kinds import KINDS
from expertbank.records import ProgressCallback, ProgressEvent, RunRecord, TaskRecord
from expertbank.workflows.environment import package_versions
from expertbank.workflows.growing.register import NewExpert


class Members(Protocol):
    """The files that a manifest lists."""

    remarks: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """The bytes of one, checked."""
        ...


def opened(source: Path) -> tuple[str, Any, Members]:
    """Digest and content of the manifest, and the files, of a folder or an archive."""
    if source.is_file():
        archive = BundleArchive(source)
        return archive.digest, archive.content, archive
    reader = BundleReader(source)
    return reader.manifest.digest, reader.manifest.content, reader


def read_experts(
    source: Path,
    digest: str,
    content: Any,
    members: Members,
    spec: FeatureSpec,
    tasks: Sequence[str],
    progress: ProgressCallback,
) -> list[NewExpert]:
    """The experts of a bundle by task; of all or of ``tasks``.

    Raises:
        NotFoundError: it does not hold one of the tasks.
        InputError: one comes without features and evidence.
        IntegrityError: a file is not what the manifest says.
    """
    entries = list(content["experts"])
    held = [str(entry["task"]) for entry in entries]
    for task in tasks:
        if task not in held:
            raise NotFoundError.of("task", task, held)
    chosen = [entry for entry in entries if not tasks or entry["task"] in tasks]
    if len(set(held)) != len(held):
        raise IntegrityError(f"{source}: it holds two experts of one task")
    found = []
    for number, entry in enumerate(chosen):
        progress(ProgressEvent("reading experts", number, len(chosen), str(entry["id"])))
        found.append(_incoming(f"{source}: {entry['id']}", entry, digest, members, spec))
    return sorted(found, key=lambda one: one.expert.task)


def _incoming(
    where: str, entry: Any, bundle: str, members: Members, spec: FeatureSpec
) -> NewExpert:
    lineage = entry.get("lineage")
    if lineage is None:
        raise InputError(
            f"{where} comes without features and evidence, so it could not be routed to; "
            "write the bundle again with: expertbank export --for-import"
        )
    name = check_task_name(str(entry["task"]))
    KINDS.require(str(entry["kind"]))  # says its name, where it is not installed
    files = {
        "expert": members.read(str(entry["file"])),
        "features": members.read(str(lineage.get("features") or lineage["statistics"])),
        "oracle": members.read(str(lineage["evidence"])),
    }
    if sha256_bytes(files["expert"]) != entry["digest"]:
        raise IntegrityError(f"{where}: its file is not the expert that the manifest describes")
    run, group = lineage["run"], entry["group"]
    task = TaskRecord(
        name,
        entry["kind"],
        tuple(str(label) for label in entry["labels"]),
        # The expert's own, as it was trained: a bundle of before names the first version's.
        TaskSpec.from_dict(run["data"].get("spec") or entry["spec"], name).to_dict(),
        now(),
        group=None if group is None else check_task_name(str(group), "group"),
    )
    made = RunRecord(
        "import",
        {
            **dict(run["config"]),
            "imported": {
                "bundle": bundle,
                "expert": str(entry["id"]),
                "run": str(run["kind"]),
                "created_at": str(run["created_at"]),
                "with": package_versions(),
            },
        },
        int(run["seed"]),
        dict(run["environment"]),
        dict(run["data"]),
        spec.backbone_digest,
        float(run["seconds"]),
    )
    version, environment = int(entry["version"]), dict(lineage["environment"])
    return NewExpert.checked(where, spec, task, version, made, environment, files)
