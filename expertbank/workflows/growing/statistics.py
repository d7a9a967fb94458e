"""Statistics of experts in a bank: as they are stored, or made of what is kept of their rows."""

from __future__ import annotations

from dataclasses import dataclass

from expertbank.artifacts.store import ArtifactStore, sha256_bytes
from expertbank.errors import MALFORMED, IntegrityError
from expertbank.files.header import read_header
from expertbank.records import ArtifactRecord, FeatureSetRecord, StatisticsRecord
from expertbank.routing.feature_file import FeatureFile
from expertbank.routing.grid import Grid
from expertbank.routing.statistics import Statistics
from expertbank.routing.statistics_file import is_statistics, read_statistics, write_statistics
from expertbank.workflows.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Summed:
    """Statistics with their bytes."""

    statistics: Statistics
    data: bytes

    def record(self, expert_id: str) -> StatisticsRecord:
        """What the registry keeps of them."""
        own = self.statistics
        return StatisticsRecord(
            expert_id,
            sha256_bytes(self.data),
            own.feature_spec_digest,
            own.grid.dimension,
            own.width,
            own.grid.projection,
            own.count,
            len(self.data),
        )

    @property
    def artifact(self) -> ArtifactRecord:
        """The file's row."""
        return ArtifactRecord(sha256_bytes(self.data), "statistics", len(self.data))


def kept_of(data: bytes, where: str) -> FeatureFile | Statistics:
    """What a file that the bank keeps of an expert's rows holds.

    Raises:
        IntegrityError: neither features nor statistics.
    """
    if is_statistics(data, where):
        return read_statistics(data, where)
    return FeatureFile.from_bytes(data, where)


def summed_of(kept: FeatureFile | Statistics, data: bytes) -> Summed:
    """Statistics of ``kept``, which was read from ``data``: it itself, or made of its features."""
    if isinstance(kept, Statistics):
        return Summed(kept, data)
    made = Statistics.of(
        *(kept.train, kept.train_shapes, kept.feature_spec_digest),
        tokens=kept.train_tokens,
        spans=kept.spans,
        sureness=kept.sureness,
        guess=kept.guess,
    )
    return Summed(made, write_statistics(made))


def made_of(store: ArtifactStore, features: FeatureSetRecord) -> Summed:
    """Statistics of an expert that the registry has none of, from what is kept of its rows.

    Raises:
        IntegrityError: the file changed on disk.
    """
    where, data = f"cached features of {features.expert_id}", store.get(features.digest)
    return summed_of(kept_of(data, where), data)


def statistics_of(workspace: Workspace, expert_id: str) -> Statistics:
    """An expert's statistics, stored or made now.

    Raises:
        NotFoundError: they were deleted with its features.
        IntegrityError: a file changed on disk.
    """
    for record in workspace.registry.statistics(expert_id):
        data = workspace.store.get(record.digest)
        return read_statistics(data, f"statistics of {expert_id}")
    return made_of(workspace.store, workspace.registry.feature_set(expert_id)).statistics


def grid_of(workspace: Workspace) -> Grid | None:
    """The grid that the statistics of the bank's members are of; ``None`` where there are none.

    Banks of expertbank 0.1 that keep no rows have moments of 512 projected features: what comes
    to them is of such too.
    """
    stored = {one.expert_id: one for one in workspace.registry.statistics()}
    cached = {one.expert_id: one for one in workspace.registry.feature_sets()}
    for member in workspace.registry.members():
        if member.id in stored:
            return Grid(stored[member.id].dimension, stored[member.id].projection)
        features = cached.get(member.id)
        if features is not None and features.n_eval:
            return Grid.suiting(features.dimension)
        if features is not None and workspace.store.state(features.digest) is not None:
            where = f"statistics of {member.id}"
            facts = read_header(workspace.store.get(features.digest), where).metadata
            try:
                old = facts["format"] == 1
                return Grid(int(facts["dimension"]), "stats") if old else Grid.read(facts["grid"])
            except MALFORMED as error:
                raise IntegrityError(f"{where}: not a statistics file ({error!r})") from error
    return None


def require_grid(where: str, grid: Grid, wanted: Grid | None) -> None:
    """Refuse statistics that cannot be added to those that there are.

    Raises:
        IntegrityError: they are of other numbers.
    """
    if wanted is not None and grid != wanted:
        raise IntegrityError(
            f"{where}: statistics of {grid.width} numbers made of {grid.dimension} features "
            f"(projection {grid.projection}) cannot be added to this bank's, which are of "
            f"{wanted.width} made of {wanted.dimension} (projection {wanted.projection})"
        )
