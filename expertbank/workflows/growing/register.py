"""An expert that was made elsewhere: checked against its bank, then registered.

One way in for what a job gives and what a bundle brings: bytes are believed when they are what
their digests, the task and the bank's feature spec say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from expertbank.artifacts.store import sha256_bytes
from expertbank.config import FeatureSpec
from expertbank.errors import IntegrityError
from expertbank.kinds import KINDS
from expertbank.records import (
    ArtifactRecord,
    EvaluationRecord,
    ExpertRecord,
    FeatureSetRecord,
    RunRecord,
    TaskRecord,
)
from expertbank.workflows.growing.fitting import require_fitting
from expertbank.workflows.workspace import Workspace

if TYPE_CHECKING:
    from expertbank.evaluation.predictions import Predictions
    from expertbank.workflows.growing.statistics import Summed

FILES = ("expert", "features", "oracle")


@dataclass(frozen=True, slots=True)
class NewExpert:
    """An expert read in full and found sound, that the bank does not have yet.

    Attributes:
        task: its task.
        expert: what to register of it.
        run: what made it.
        environment: where it was measured, and how its rows were batched.
        files: its bytes by artifact kind: ``expert``, ``features`` where rows are kept,
            ``statistics``, ``oracle``.
        features: what the registry keeps of ``features``, or of ``statistics`` in their place.
        summed: what ``statistics`` holds.
        oracle: what ``oracle`` holds.
    """

    task: TaskRecord
    expert: ExpertRecord
    run: RunRecord
    environment: Mapping[str, Any]
    files: Mapping[str, bytes]
    features: FeatureSetRecord
    summed: Summed
    oracle: Predictions

    @classmethod
    def checked(
        cls,
        where: str,
        spec: FeatureSpec,
        task: TaskRecord,
        version: int,
        run: RunRecord,
        environment: Mapping[str, Any],
        files: Mapping[str, bytes],
    ) -> NewExpert:
        """Read the files and compare them with what they are said to be.

        Statistics are made here of features; where only they come, they are held to what rows
        can have.

        Args:
            where: whose files they are, for messages.
            spec: the bank's feature spec.
            task: the task.
            version: of the expert.
            run: what made it.
            environment: where it was measured.
            files: bytes by ``FILES``; ``features`` may be statistics.

        Raises:
            IntegrityError: damaged, of another task, or made under another feature spec.
        """
        from expertbank.evaluation.predictions import Predictions
        from expertbank.models.expert_file import ExpertFile
        from expertbank.routing.statistics import Statistics
        from expertbank.routing.statistics_file import require_positive
        from expertbank.workflows.growing.statistics import kept_of, summed_of

        if set(files) != set(FILES):
            raise IntegrityError(f"{where}: its files are {sorted(files)}, not {sorted(FILES)}")
        file = ExpertFile.from_bytes(files["expert"], where)
        if (file.task, file.kind, file.labels) != (task.name, task.kind, task.labels):
            raise IntegrityError(f"{where}: its file is not the expert that it is said to be")
        data = files["features"]
        kept = kept_of(data, f"{where}: features")
        digests = {file.feature_spec_digest, kept.feature_spec_digest}
        if digests != {spec.digest} or file.backbone_digest != spec.backbone_digest:
            raise IntegrityError(
                f"{where}: expert or features follow another feature spec or backbone"
            )
        oracle = Predictions.from_bytes(files["oracle"], f"{where}: evidence")
        if spec.keep == "stats" and oracle.texts is not None:
            raise IntegrityError(f"{where}: texts as evidence, where the bank keeps no text")
        if isinstance(kept, Statistics):
            require_positive(kept, f"{where}: statistics")
        elif spec.keep == "stats":
            raise IntegrityError(f"{where}: features, where the bank keeps statistics only")
        elif kept.n_eval != len(oracle.row_digests):
            raise IntegrityError(f"{where}: features and evidence are of different rows")
        summed = summed_of(kept, data)
        own = {name: files[name] for name in ("expert", "oracle")}
        if summed.data is not data:
            own["features"] = data
        expert = ExpertRecord(
            task.name,
            version,
            sha256_bytes(files["expert"]),
            file.adapter().parameter_count,
            file.head_params,
            len(files["expert"]),
            task.labels,
            task.kind,
        )
        features = FeatureSetRecord(
            expert.id,
            sha256_bytes(data),
            spec.digest,
            kept.width,
            kept.n_train,
            kept.n_eval,
            len(data),
        )
        own["statistics"] = summed.data
        return cls(task, expert, run, environment, own, features, summed, oracle)


def register(workspace: Workspace, one: NewExpert) -> tuple[ExpertRecord, dict[str, Any]]:
    """Store and register an expert: bytes first, made durable, then the rows.

    The bank's lock is held by the caller (``Workspace.writing``), who asks under it whether names
    are still free (``grouping.require_free_names``).

    Returns:
        the registered expert, and its metrics. These are counted anew from the evidence: what a
        file claims of itself proves nothing.
    """
    kind = KINDS.get(one.task.kind)
    metrics = kind.metrics(one.oracle)
    digests = {name: workspace.store.put(data) for name, data in one.files.items()}
    registered = workspace.registry.commit_expert(
        one.task,
        one.run,
        one.expert,
        [ArtifactRecord(digests[name], name, len(data)) for name, data in one.files.items()],
        replace(one.features, expert_id=one.expert.id),
        [
            EvaluationRecord(
                one.expert.id,
                metrics["n"],
                kind.outcome(one.oracle).correct(),
                digests["oracle"],
                metrics,
                one.environment,
            )
        ],
        one.summed.record(one.expert.id),
        require_fitting,
    )
    return registered, metrics
