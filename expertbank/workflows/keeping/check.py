"""``verify``: is every stored byte still what the registry says it is?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from expertbank.artifacts.rehash import Rehashed, rehash
from expertbank.errors import ExpertBankError, InputError, IntegrityError
from expertbank.evaluation.predictions import NOT_BY_ROW
from expertbank.files.header import Header, read_header
from expertbank.records import (
    ArtifactRecord,
    FeatureSetRecord,
    Problem,
    ProgressCallback,
    ProgressEvent,
    StatisticsRecord,
    no_progress,
)
from expertbank.references import locate
from expertbank.registry.names import ACTIVE
from expertbank.workflows.workspace import Workspace

RESTORE_FILE = "restore the file from a backup of the bank"
RESTORE_BACKBONE = "put its files back as they were, or say where they are with --backbone FOLDER"
FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""NumPy's names for the types that a safetensors file calls so."""
OTHER_ROUTER = "expertbank retrain-router, or one of before: expertbank alias active router@N"
RESTORE_DATABASE = "restore the database from a backup: expertbank db restore FILE"


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
        return {
            "ok": self.ok,
            "problems": [{"what": p.what, "where": p.where, "todo": p.todo} for p in self.problems],
            "artifacts": self.artifacts,
            "bytes": self.bytes,
            "unreferenced": list(self.unreferenced),
            "purged": self.purged,
        }


@dataclass(slots=True)
class _Claims:
    """What rows say of one file: a router's members are named with their digests."""

    features: list[FeatureSetRecord] = field(default_factory=list)
    statistics: list[StatisticsRecord] = field(default_factory=list)
    evidence: list[tuple[str, int]] = field(default_factory=list)
    routers: list[tuple[int, list[tuple[str, str]]]] = field(default_factory=list)


def check(workspace: Workspace, progress: ProgressCallback = no_progress) -> Verification:
    """Check database, schema, triggers and memberships, rehash every registered file.

    What files say of themselves is compared with their rows: members of routers, numbers of
    rows of features and of evidence. The numbers of the active router are looked at. The
    backbone's files are hashed too, where they are here.
    """
    of_registry = workspace.registry.check()
    problems = [*of_registry, *_of_backbone(workspace)]
    known = {artifact.digest: artifact for artifact in workspace.registry.artifacts()}
    artifacts = [artifact for artifact in known.values() if artifact.purged_at is None]
    claims = {} if of_registry else _claims(workspace)
    store, count = workspace.store, len(artifacts)

    def done(number: int) -> None:
        progress(ProgressEvent("rehashing artifacts", number, count, artifacts[number - 1].kind))

    digests = [artifact.digest for artifact in artifacts]
    for artifact, found in zip(artifacts, rehash(store, digests, done), strict=True):
        problems += _of_artifact(artifact, found, claims.get(artifact.digest, _Claims()))
    if not of_registry:
        problems += _of_active(workspace, {problem.where for problem in problems})
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


def _claims(workspace: Workspace) -> Mapping[str, _Claims]:
    registry = workspace.registry
    found: dict[str, _Claims] = {}
    for features in registry.feature_sets():
        found.setdefault(features.digest, _Claims()).features.append(features)
    for statistics in registry.statistics():
        found.setdefault(statistics.digest, _Claims()).statistics.append(statistics)
    for record in registry.evaluations():
        of = record.expert_id
        if record.router_version is not None:
            of += f" under router@{record.router_version}"
        found.setdefault(record.artifact_digest, _Claims()).evidence.append((of, record.n))
    experts = {expert.id: expert.digest for expert in registry.experts()}
    for router in registry.routers():
        members = [(name, experts[name]) for name in router.members]
        found.setdefault(router.digest, _Claims()).routers.append((router.version, members))
    return found


def _of_artifact(artifact: ArtifactRecord, read: Rehashed, claims: _Claims) -> Iterator[Problem]:
    try:
        if read.error is not None:
            raise read.error
        header = read_header(read.header, artifact.digest)
    except IntegrityError as error:
        yield Problem(str(error), artifact.digest, RESTORE_FILE)
        return
    said = {artifact.bytes, *(features.bytes for features in claims.features)}
    said |= {statistics.bytes for statistics in claims.statistics}
    if said != {read.size}:
        what = f"artifact has {read.size} bytes, the registry says {' and '.join(map(str, said))}"
        yield Problem(what, artifact.digest, RESTORE_DATABASE)
    for features in claims.features:
        yield from _of_features(features, header)
    for statistics in claims.statistics:
        yield from _of_statistics(statistics, header)
    for owner, rows in claims.evidence:
        by_row = (shape for name, shape in header.shapes.items() if name not in NOT_BY_ROW)
        found = {shape[0] for shape in by_row if shape}
        if found != {rows}:
            what = f"the evaluation of {owner} counts {rows} rows, its file holds {sorted(found)}"
            yield Problem(what, artifact.digest, RESTORE_DATABASE)
    for version, members in claims.routers:
        yield from _of_router(f"router@{version}", members, header)


def _of_features(features: FeatureSetRecord, header: Header) -> Iterator[Problem]:
    expected = {
        "train": (features.n_train, features.dimension),
        "evaluation": (features.n_eval, features.dimension),
    }
    for name, shape in expected.items():
        found = header.shapes.get(name)
        if found is not None and found != shape:
            what = f"{name} features of {features.expert_id} are {found}, the row says {shape}"
            yield Problem(what, features.digest, RESTORE_DATABASE)
    spec = header.metadata.get("feature_spec_digest")
    if spec != features.feature_spec_digest:
        what = f"features of {features.expert_id} follow spec {spec}, the row says another"
        yield Problem(what, features.digest, RESTORE_DATABASE)


def _of_statistics(statistics: StatisticsRecord, header: Header) -> Iterator[Problem]:
    facts, owner = header.metadata, statistics.expert_id
    if header.shapes.get("total") != (statistics.width,):
        what = f"statistics of {owner} are of another width than the row's {statistics.width}"
        yield Problem(what, statistics.digest, RESTORE_DATABASE)
    if facts.get("feature_spec_digest") != statistics.feature_spec_digest:
        what = f"statistics of {owner} follow another feature spec than the row says"
        yield Problem(what, statistics.digest, RESTORE_DATABASE)
    if facts.get("count", statistics.rows) != statistics.rows:
        what = f"statistics of {owner} are of {facts['count']} rows, the row says {statistics.rows}"
        yield Problem(what, statistics.digest, RESTORE_DATABASE)


def _of_router(where: str, rows: list[tuple[str, str]], header: Header) -> Iterator[Problem]:
    """The file's members, by name and digest, are those of the rows, in the same order."""
    try:
        inside = [(str(member[0]), str(member[1])) for member in header.metadata["members"]]
    except (KeyError, IndexError, TypeError):
        yield Problem("its file names no members", where, RESTORE_FILE)
        return
    if inside != rows:
        what = (
            f"its file is over {', '.join(name for name, _ in inside)}, its rows over "
            f"{', '.join(name for name, _ in rows)}, or their digests differ"
        )
        yield Problem(what, where, RESTORE_DATABASE)
