"""What a router is to be fitted over: the members of a bank, and what is kept of their rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expertbank.artifacts.store import ArtifactStore
from expertbank.config import FeatureSpec
from expertbank.errors import IntegrityError
from expertbank.records import (
    ExpertRecord,
    FeatureSetRecord,
    ProgressCallback,
    ProgressEvent,
)
from expertbank.routing.config import RouterConfig
from expertbank.workflows.none_alive import no_expert
from expertbank.workflows.presence import files_of, require_present
from expertbank.workflows.workspace import Workspace

if TYPE_CHECKING:
    from expertbank.routing.feature_file import FeatureFile


class Clock:
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
class Job:
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
    clock: Clock

    @property
    def measured(self) -> tuple[ExpertRecord, ...]:
        """Those whose evaluation rows are kept."""
        return tuple(one for one in self.experts if self.features[one.id].n_eval)


def gather(workspace: Workspace) -> Job:
    """The members, and what is kept of each, asked for at once: a bank may hold thousands."""
    registry = workspace.registry
    workspace.probe_writable()
    generation, experts = registry.generation(), registry.members()
    if not experts:
        raise no_expert(registry)
    groups = {task.name: task.group for task in registry.tasks()}
    found = {record.expert_id: record for record in registry.feature_sets()}
    features = {e.id: found.get(e.id) or registry.feature_set(e.id) for e in experts}
    ids = {expert.id for expert in experts}
    stored = {one.expert_id: one.digest for one in registry.statistics() if one.expert_id in ids}
    store = workspace.store
    wanted = files_of(experts)
    wanted |= {digest: f"the statistics of {name}" for name, digest in stored.items()}
    wanted |= {one.digest: f"the cached features of {name}" for name, one in features.items()}
    owners = {digest: name for name, digest in stored.items()}
    owners |= {one.digest: name for name, one in features.items()}
    owners |= {expert.digest: expert.id for expert in experts}

    def without(digest: str) -> str:
        task = owners[digest].partition("@")[0]
        return f"leave the task out: expertbank remove --task {task}"

    require_present(store, wanted, without)
    return Job(
        generation, tuple(experts), groups, features, stored, [], workspace.spec, store, Clock()
    )


def require_rows(job: Job, config: RouterConfig) -> None:
    """Refuse a gate that is trained on rows where some expert has none here.

    Raises:
        InputError: it names the experts, and the gates that need no rows.
    """
    from expertbank.routing.fit import needs_rows

    measured = {expert.id for expert in job.measured}
    without = [expert.id for expert in job.experts if expert.id not in measured]
    if without:
        raise needs_rows(config, without)


def make_missing(workspace: Workspace, job: Job, progress: ProgressCallback) -> None:
    """Make and register statistics of experts that have none: those of an older bank, once."""
    from expertbank.workflows.growing.statistics import made_of

    missing = [expert.id for expert in job.experts if expert.id not in job.statistics]
    for number, name in enumerate(missing):
        progress(ProgressEvent("making statistics", number, len(missing), name))
        with job.clock.on("read"):
            made = made_of(job.store, job.features[name])
            require_spec(job, made.statistics.feature_spec_digest, name)
            with workspace.writing():
                job.statistics[name] = job.store.put(made.data)
                workspace.registry.add_statistics([made.record(name)], [made.artifact])
        job.made.append(name)


def features_of(job: Job, expert: str) -> FeatureFile:
    """An expert's cached features.

    Raises:
        IntegrityError: they changed on disk, or follow another feature spec.
    """
    from expertbank.routing.feature_file import FeatureFile

    data = job.store.get(job.features[expert].digest)
    file = FeatureFile.from_bytes(data, f"cached features of {expert}")
    require_spec(job, file.feature_spec_digest, expert)
    return file


def require_spec(job: Job, digest: str, expert: str) -> None:
    """Refuse what was made under another feature spec.

    Raises:
        IntegrityError: it was; the expert is named.
    """
    if digest != job.spec.digest:
        raise IntegrityError(f"features of {expert} follow another feature spec than the bank's")
