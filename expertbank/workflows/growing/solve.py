"""From members to a router: what is new is added to the sums of the last fit, and solved."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING

from expertbank.errors import ExpertBankError
from expertbank.records import ProgressCallback, ProgressEvent, RowShape
from expertbank.routing.config import RouterConfig
from expertbank.workflows.growing.members import Job, features_of, require_spec
from expertbank.workflows.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor

    from expertbank.routing.columns import Entry
    from expertbank.routing.router import Router
    from expertbank.routing.statistics import Statistics
    from expertbank.routing.sums import Sums


def solve(
    workspace: Workspace, job: Job, config: RouterConfig, progress: ProgressCallback
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
            file = features_of(job, name)
        return file.train, file.train_shapes

    with job.clock.on("solve"):
        blocks = len(job.spec.states) * len(job.spec.poolings)
        return fit_sums(entries, job.statistics, sums, config, job.spec.digest, rows_of, blocks)


def _sums(
    workspace: Workspace, job: Job, entries: Sequence[Entry], progress: ProgressCallback
) -> Sums:
    """The sums over all members' statistics, left for the next fit where they are new."""
    from expertbank.backbones.forks import computing
    from expertbank.routing.fit import by_digest
    from expertbank.routing.statistics_file import read_statistics
    from expertbank.routing.sums import summed
    from expertbank.workflows.growing.sums_cache import SumsCache

    cache = SumsCache(workspace.folder, job.spec.digest)
    owners = {digest: name for name, digest in job.statistics.items()}
    numbers = count(1)

    def read(digest: str) -> Statistics:
        owner = owners.get(digest, "a member that was")
        done = min(next(numbers), len(owners))
        progress(ProgressEvent("adding statistics", done, len(owners), owner))
        with job.clock.on("read", within="add"):
            found = read_statistics(job.store.get(digest), f"statistics of {owner}")
            require_spec(job, found.feature_spec_digest, owner)
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
