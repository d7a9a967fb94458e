"""``retrain-router``: prepare, sum, solve, measure, commit.

The gate is solved from exact sums over all tasks' rows, which are those of the last fit and what
is new: no old text is read, no backbone is loaded, no expert weight is touched. Only the last step
registers a router; statistics that an older bank lacks are made and kept before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from expertbank.artifacts.store import ArtifactStore, sha256_bytes
from expertbank.config import FeatureSpec
from expertbank.errors import ExpertBankError, IntegrityError, NotFoundError
from expertbank.evaluation.evidence import summary
from expertbank.records import (
    AliasRecord,
    ArtifactRecord,
    ExpertRecord,
    FeatureSetRecord,
    ProgressCallback,
    ProgressEvent,
    RouterRecord,
    RowShape,
    RunRecord,
    no_progress,
)
from expertbank.registry.names import ACTIVE
from expertbank.routing.config import RouterConfig
from expertbank.workflows.growing.evidence import evaluations_of, evidence_of
from expertbank.workflows.presence import files_of, require_present
from expertbank.workflows.workspace import Workspace, package_versions

if TYPE_CHECKING:
    from torch import Tensor

    from expertbank.evaluation.routing import Routed
    from expertbank.routing.columns import Entry
    from expertbank.routing.feature_file import FeatureFile
    from expertbank.routing.router import Router
    from expertbank.routing.statistics import Statistics
    from expertbank.routing.sums import Sums

UNMEASURED: dict[str, Any] = {
    "accuracy": None,
    "per_task": {},
    "confusions": [],
    "calibration_error": None,
    "unknown": None,
}
"""Metrics where no evaluation row is kept; `forgetting-report` reads the source again."""


@dataclass(frozen=True, slots=True)
class RouterResult:
    """What was fitted.

    Attributes:
        router: the registered router.
        tasks: names of its members.
        metrics: on evaluation rows, ``accuracy`` (mean of per-task routing accuracies),
            ``per_task``, ``confusions`` (pairs above 10%), ``calibration_error`` (expected, of
            the confidences) and ``unknown`` (share of known rows taken for unknown; ``None``
            where it is not judged); every task weighs the same. Where the bank keeps no
            evaluation features all of it is ``None`` or empty.
        cost: seconds to ``read`` what is new (and to make statistics that were not there), to
            ``add`` it to the sums of the last fit, to ``solve`` and to ``evaluate``.
        put_on_grid: experts of an older bank whose features or moments were put on the grid now;
            their statistics are kept, so that is done once.
        unmeasured: tasks none of whose evaluation rows are kept here; metrics leave them out.
        old_texts_read: rows of text this took, always 0.
        seconds: time spent.
        active: whether ``active`` names this router now.
    """

    router: RouterRecord
    tasks: tuple[str, ...]
    metrics: dict[str, Any]
    seconds: float
    active: bool
    cost: Mapping[str, float] = field(default_factory=dict)
    put_on_grid: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()
    old_texts_read: int = 0

    def to_dict(self) -> dict[str, Any]:
        """What ``retrain-router --json`` answers."""
        return {
            "router": {
                "version": self.router.version,
                "kind": self.router.kind,
                "digest": self.router.digest,
                "params": self.router.params,
                "active": self.active,
            },
            "tasks": list(self.tasks),
            "metrics": self.metrics,
            "unmeasured": list(self.unmeasured),
            "put_on_grid": list(self.put_on_grid),
            "cost": {name: round(seconds, 3) for name, seconds in self.cost.items()},
            "old_texts_read": self.old_texts_read,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class _Job:
    """What a router is to be fitted over, as the bank stood when the work began.

    Attributes:
        generation: of the registry; another one at the end means that the bank changed.
        experts: the members to be.
        groups: by task its group.
        features: by expert what is kept of its rows.
        statistics: by expert the digest of its statistics.
        made: experts whose statistics were made now.
        spec: the bank's feature spec.
        store: the bank's files; like the spec asked for once, not for every file.
        clock: where the time goes.
    """

    generation: int
    experts: tuple[ExpertRecord, ...]
    groups: Mapping[str, str | None]
    features: Mapping[str, FeatureSetRecord]
    statistics: dict[str, str]
    made: list[str]
    spec: FeatureSpec
    store: ArtifactStore
    clock: _Clock

    @property
    def measured(self) -> tuple[ExpertRecord, ...]:
        """Those whose evaluation rows are kept."""
        return tuple(one for one in self.experts if self.features[one.id].n_eval)


class _Clock:
    """Seconds by what they were spent on; time within a part of a part counts for that alone."""

    def __init__(self) -> None:
        self.seconds = {"read": 0.0, "add": 0.0, "solve": 0.0, "evaluate": 0.0}

    @contextmanager
    def on(self, part: str, within: str | None = None) -> Iterator[None]:
        """Around what is ``part``, and no longer what it stands ``within``."""
        started = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - started
            self.seconds[part] += took
            if within is not None:
                self.seconds[within] -= took


@dataclass(frozen=True, slots=True)
class _Measured:
    """A router's choices for evaluation rows by expert, and what they come to."""

    choices: Mapping[str, Routed] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=UNMEASURED.copy)


def retrain_router(
    workspace: Workspace,
    config: RouterConfig,
    *,
    activate: bool = True,
    progress: ProgressCallback = no_progress,
) -> RouterResult:
    """Fit, measure and register a router over the newest expert of every task.

    Raises:
        NotFoundError: the bank has no expert yet.
        StaleError: an expert came or went meanwhile; no router was registered.
        IntegrityError: an expert's file is gone, or what is kept of its rows changed on disk.
        InputError: a gate that needs rows, in a bank that keeps statistics only.
    """
    started = time.monotonic()
    job = _prepare(workspace)
    if config.gate.fit_moments is None:
        _require_rows(job, config)
    _make_missing(workspace, job, progress)
    router = _solve(workspace, job, config, progress)
    with job.clock.on("evaluate"):
        measured = _measure(job, router)
    seconds = time.monotonic() - started
    record = _commit(workspace, job, config, router, measured, seconds, activate=activate)
    active = AliasRecord(ACTIVE, record.version) in workspace.registry.aliases()
    there = {expert.task for expert in job.measured}
    return RouterResult(
        record,
        tuple(expert.task for expert in job.experts),
        dict(measured.metrics),
        time.monotonic() - started,
        active,
        job.clock.seconds,
        tuple(job.made),
        tuple(expert.task for expert in job.experts if expert.task not in there),
    )


def _prepare(workspace: Workspace) -> _Job:
    """The members, and what is kept of each, asked for at once: a bank may hold thousands."""
    registry = workspace.registry
    workspace.probe_writable()
    generation, experts = registry.generation(), registry.members()
    if not experts:
        raise NotFoundError("no expert to route to yet; first run: expertbank add --task T")
    groups = {task.name: task.group for task in registry.tasks()}
    found = {record.expert_id: record for record in registry.feature_sets()}
    features = {e.id: found.get(e.id) or registry.feature_set(e.id) for e in experts}
    ids = {expert.id for expert in experts}
    stored = {one.expert_id: one.digest for one in registry.statistics() if one.expert_id in ids}
    store = workspace.store
    wanted = files_of(experts)
    wanted |= {digest: f"the statistics of {name}" for name, digest in stored.items()}
    wanted |= {one.digest: f"the cached features of {name}" for name, one in features.items()}
    require_present(store, wanted, "leave the task out: expertbank remove TASK")
    return _Job(
        generation, tuple(experts), groups, features, stored, [], workspace.spec, store, _Clock()
    )


def _require_rows(job: _Job, config: RouterConfig) -> None:
    """Refuse a gate that is trained on rows where some expert has none here.

    Raises:
        InputError: it names the experts, and the gates that need no rows.
    """
    from expertbank.routing.fit import needs_rows

    measured = {expert.id for expert in job.measured}
    without = [expert.id for expert in job.experts if expert.id not in measured]
    if without:
        raise needs_rows(config, without)


def _make_missing(workspace: Workspace, job: _Job, progress: ProgressCallback) -> None:
    """Make and register statistics of experts that have none: those of an older bank, once."""
    from expertbank.workflows.growing.statistics import made_of

    missing = [expert.id for expert in job.experts if expert.id not in job.statistics]
    for number, name in enumerate(missing):
        progress(ProgressEvent("making statistics", number, len(missing), name))
        with job.clock.on("read"):
            made = made_of(job.store, job.features[name])
            _require_spec(job, made.statistics.feature_spec_digest, name)
            with workspace.writing():
                job.statistics[name] = job.store.put(made.data)
                workspace.registry.add_statistics([made.record(name)], [made.artifact])
        job.made.append(name)


def _solve(
    workspace: Workspace, job: _Job, config: RouterConfig, progress: ProgressCallback
) -> Router:
    """The router over the sums of all members; those of the last fit are gone on from."""
    from expertbank.routing.columns import Entry
    from expertbank.routing.fit import fit_sums

    entries = [Entry(e.id, e.digest, e.task, e.kind, job.groups[e.task]) for e in job.experts]
    sums = _sums(workspace, job, entries, progress)
    every = len(job.experts)
    progress(ProgressEvent(f"fitting the {config.kind} gate", every, every))

    def rows_of(name: str) -> tuple[Tensor, tuple[RowShape, ...]]:
        with job.clock.on("read", within="solve"):
            file = _features(job, name)
        return file.train, file.train_shapes

    with job.clock.on("solve"):
        return fit_sums(entries, job.statistics, sums, config, job.spec.digest, rows_of)


def _sums(
    workspace: Workspace, job: _Job, entries: Sequence[Entry], progress: ProgressCallback
) -> Sums:
    """The sums over all members' statistics, left for the next fit where they are new."""
    from expertbank.backbones.forks import computing
    from expertbank.routing.fit import by_digest
    from expertbank.routing.statistics_file import read_statistics
    from expertbank.routing.sums import summed
    from expertbank.workflows.growing.sums_cache import SumsCache

    cache = SumsCache(workspace.home, job.spec.digest)
    owners = {digest: name for name, digest in job.statistics.items()}
    numbers = count(1)

    def read(digest: str) -> Statistics:
        owner = owners.get(digest, "a member that was")
        done = min(next(numbers), len(owners))
        progress(ProgressEvent("adding statistics", done, len(owners), owner))
        with job.clock.on("read", within="add"):
            found = read_statistics(job.store.get(digest), f"statistics of {owner}")
            _require_spec(job, found.feature_spec_digest, owner)
        return found

    with job.clock.on("read"):
        before = cache.read()
    columns = by_digest(entries, job.statistics)
    with computing(), job.clock.on("add"):
        if before is not None and not before.near(columns):
            before = None
        try:
            sums = summed(columns, read, before)
        except ExpertBankError:
            # What is to be taken out may be gone from the store.
            if before is None:
                raise
            sums = summed(columns, read)
        if before is None or sums.placed != before.placed:
            cache.write(sums)
    return sums


def _measure(job: _Job, router: Router) -> _Measured:
    """What the router chooses for evaluation rows, one expert's at a time, and how well it does.

    Experts none of whose rows are kept are left out.
    """
    from expertbank.evaluation.routing import routing_metrics
    from expertbank.workflows.choices import routed

    if not job.measured:
        return _Measured()
    choices, unknown = {}, []
    for expert in job.measured:
        file = _features(job, expert.id)
        choices[expert.id], share = routed(router, file.evaluation, file.evaluation_shapes)
        unknown += [] if share is None else [share]
    home = {expert.task: router.column_of(expert.task) for expert in job.experts}
    metrics = routing_metrics(home, {e.task: choices[e.id] for e in job.measured})
    return _Measured(
        choices, {**metrics, "unknown": sum(unknown) / len(unknown) if unknown else None}
    )


def _features(job: _Job, expert: str) -> FeatureFile:
    """An expert's cached features.

    Raises:
        IntegrityError: they changed on disk, or follow another feature spec.
    """
    from expertbank.routing.feature_file import FeatureFile

    data = job.store.get(job.features[expert].digest)
    file = FeatureFile.from_bytes(data, f"cached features of {expert}")
    _require_spec(job, file.feature_spec_digest, expert)
    return file


def _require_spec(job: _Job, digest: str, expert: str) -> None:
    if digest != job.spec.digest:
        raise IntegrityError(f"features of {expert} follow another feature spec than the bank's")


def _commit(
    workspace: Workspace,
    job: _Job,
    config: RouterConfig,
    router: Router,
    measured: _Measured,
    seconds: float,
    *,
    activate: bool,
) -> RouterRecord:
    """Store the router and those of its choices that are new, then register them.

    Raises:
        StaleError: an expert came or went meanwhile; nothing was registered.
    """
    registry, spec = workspace.registry, job.spec
    data = router.to_bytes()
    features = {expert.id: job.features[expert.id].digest for expert in job.experts}
    evidence = evidence_of(router, job.groups, measured.choices)
    about = {"features": summary(features)}
    if evidence:
        about["evidence"] = summary({name: sha256_bytes(file) for name, file in evidence.items()})
    with workspace.writing():
        members = job.measured
        evaluations, new = evaluations_of(
            registry, job.store, members, router, measured.choices, evidence
        )
        files = [("router", data), *(("routed", evidence[name]) for name in new)]
        artifacts = [ArtifactRecord(job.store.put(file), kind, len(file)) for kind, file in files]
        return registry.commit_router(
            RouterRecord(
                0,
                router.kind,
                artifacts[0].digest,
                router.parameter_count,
                tuple(member.id for member in router.members),
                spec.digest,
                measured.metrics,
            ),
            RunRecord(
                "retrain-router",
                config.to_dict(),
                config.seed,
                {"packages": package_versions()},
                about,
                spec.backbone_digest,
                seconds,
            ),
            artifacts,
            evaluations,
            expected_generation=job.generation,
            activate=activate,
            members={expert.id: expert.digest for expert in job.experts},
            reason=f"retrain-router over {len(job.experts)} tasks",
        )
