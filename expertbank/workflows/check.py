"""``verify``: is every stored byte still what the registry says it is?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from expertbank.errors import IntegrityError
from expertbank.records import Problem, ProgressCallback, ProgressEvent, no_progress
from expertbank.workflows.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Verification:
    """What ``verify`` found.

    Attributes:
        problems: what is wrong; empty when all is well.
        artifacts: registered files checked.
        bytes: their size together.
        unreferenced: files in the store that no row names: left by an interrupted command,
            harmless.
    """

    problems: tuple[Problem, ...]
    artifacts: int
    bytes: int
    unreferenced: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "ok": self.ok,
            "problems": [{"what": p.what, "where": p.where, "todo": p.todo} for p in self.problems],
            "artifacts": self.artifacts,
            "bytes": self.bytes,
            "unreferenced": list(self.unreferenced),
        }


def check(workspace: Workspace, progress: ProgressCallback = no_progress) -> Verification:
    """Check database, schema, triggers and memberships, and rehash every registered file."""
    problems = list(workspace.registry.check())
    artifacts = [a for a in workspace.registry.artifacts() if a.purged_at is None]
    for number, artifact in enumerate(artifacts):
        progress(ProgressEvent("rehashing artifacts", number, len(artifacts), artifact.kind))
        try:
            data = workspace.store.get(artifact.digest)
        except IntegrityError as error:
            problems.append(
                Problem(str(error), artifact.digest, "restore the file from a backup of the bank")
            )
            continue
        if len(data) != artifact.bytes:
            problems.append(
                Problem(
                    f"artifact has {len(data)} bytes, the registry says {artifact.bytes}",
                    artifact.digest,
                    "restore the database from a backup: expertbank db --help",
                )
            )
    known = {artifact.digest for artifact in workspace.registry.artifacts()}
    unreferenced = tuple(digest for digest in workspace.store.digests() if digest not in known)
    total = sum(artifact.bytes for artifact in artifacts)
    return Verification(tuple(problems), len(artifacts), total, unreferenced)
