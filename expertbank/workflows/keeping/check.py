"""``verify``: is every stored byte still what the registry says it is?"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from expertbank.artifacts.rehash import Rehashed, rehash
from expertbank.errors import ExpertBankError, InputError, IntegrityError
from expertbank.files.header import read_header
from expertbank.plain import plain
from expertbank.records import (
    ArtifactRecord,
    Problem,
    ProgressCallback,
    ProgressEvent,
    no_progress,
)
from expertbank.references import locate
from expertbank.registry.names import ACTIVE
from expertbank.workflows.keeping.claims import (
    RESTORE_DATABASE,
    RESTORE_FILE,
    Claims,
    claims_of,
)
from expertbank.workflows.keeping.recount import of_evidence
from expertbank.workflows.workspace import Workspace

RESTORE_BACKBONE = "put its files back as they were, or say where they are with --backbone FOLDER"
FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""NumPy's names for the types that a safetensors file calls so."""
OTHER_ROUTER = "expertbank retrain-router, or one of before: expertbank alias active router@N"


@dataclass(frozen=True, slots=True)
class Verification:
    """What ``verify`` found.

    Attributes:
        problems: what is wrong; empty when all is well.
        artifacts: registered files checked.
        bytes: their size together.
        unreferenced: files in the store that no row names: left by an interrupted command,
            harmless, deleted by ``gc``.
        purged: registered files whose bytes ``gc`` deleted, of removed tasks and old routers.
    """

    problems: tuple[Problem, ...]
    artifacts: int
    bytes: int
    unreferenced: tuple[str, ...]
    purged: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {"ok": self.ok, **plain(self)}


def check(workspace: Workspace, progress: ProgressCallback = no_progress) -> Verification:
    """Check database, schema, triggers and memberships, rehash every registered file.

    What files say of themselves is compared with their rows: labels of experts, members of
    routers, numbers of rows of features and of evidence. What evaluations say is counted again
    from their evidence. The numbers of the active router are looked at. The backbone's files are
    hashed too, where they are here.
    """
    of_registry = workspace.registry.check()
    problems = [*of_registry, *_of_backbone(workspace)]
    known = {artifact.digest: artifact for artifact in workspace.registry.artifacts()}
    artifacts = [artifact for artifact in known.values() if artifact.purged_at is None]
    claims = {} if of_registry else claims_of(workspace.registry)
    store, count = workspace.store, len(artifacts)

    def done(number: int) -> None:
        progress(ProgressEvent("rehashing artifacts", number, count, artifacts[number - 1].kind))

    digests = [artifact.digest for artifact in artifacts]
    for artifact, found in zip(artifacts, rehash(store, digests, done), strict=True):
        problems += _of_artifact(artifact, found, claims.get(artifact.digest, Claims()))
    if not of_registry:
        told = {problem.where for problem in problems}
        problems += _of_active(workspace, told)
        problems += of_evidence(workspace, told)
    unreferenced = tuple(
        digest
        for digest in store.digests()
        if digest not in known or known[digest].purged_at is not None
    )
    return Verification(
        tuple(problems),
        len(artifacts),
        sum(artifact.bytes for artifact in artifacts),
        unreferenced,
        len(known) - len(artifacts),
    )


def _of_backbone(workspace: Workspace) -> Iterator[Problem]:
    """A backbone that is not here is no problem of the bank's; one that changed is."""
    from expertbank.backbones.identity import identity_of

    record = workspace.registry.backbone()
    if record is None or record.identity is None:
        return  # only the loaded model can be held against a digest of expertbank 0.1
    reference = workspace.held.reference or record.reference
    try:
        place = locate(reference, record.revision_of(reference))
    except InputError:
        return
    if place is None:
        return
    try:
        found = identity_of(place.path)
    except (ExpertBankError, OSError) as error:
        yield Problem(f"the backbone cannot be read: {error}", str(place.path), RESTORE_BACKBONE)
        return
    if not found.answers_to(record.identity, record.architecture):
        what = f"the backbone has digest {found.digest}, the bank was made with {record.identity}"
        yield Problem(what, str(place.path), RESTORE_BACKBONE)


def _of_active(workspace: Workspace, told: Collection[str]) -> Iterator[Problem]:
    """The active router's file may be the one registered, and hold what nothing can be chosen by.

    Answering refuses such a router; this needs no torch to. Of a file that is among the ``told``
    digests nothing more is said.
    """
    import numpy as np
    from safetensors import SafetensorError, deserialize

    registry = workspace.registry
    if all(alias.name != ACTIVE for alias in registry.aliases()):
        return
    record = registry.router()
    if record.digest in told:
        return
    try:
        data = workspace.store.get(record.digest)
        tensors = deserialize(data)  # type: ignore[no-untyped-call]  # it states no types
    except (ExpertBankError, SafetensorError) as error:
        yield Problem(f"the active router cannot choose: {error}", record.digest, OTHER_ROUTER)
        return
    for name, tensor in tensors:
        kind = FLOATS.get(tensor["dtype"])
        if kind and not np.isfinite(np.frombuffer(tensor["data"], kind)).all():
            what = f"the active router cannot choose: {name} is not finite"
            yield Problem(what, record.digest, OTHER_ROUTER)


def _of_artifact(artifact: ArtifactRecord, read: Rehashed, claims: Claims) -> Iterator[Problem]:
    try:
        if read.error is not None:
            raise read.error
        header = read_header(read.header, artifact.digest)
    except IntegrityError as error:
        yield Problem(str(error), artifact.digest, RESTORE_FILE)
        return
    said = claims.sizes | {artifact.bytes}
    if said != {read.size}:
        what = f"artifact has {read.size} bytes, the registry says {' and '.join(map(str, said))}"
        yield Problem(what, artifact.digest, RESTORE_DATABASE)
    yield from claims.complaints(header)
