"""What a bundle carries of an expert's past, so that another bank can take it over.

Cached features are made from a user's rows: they go into a bundle only on request. Statistics
take their place where no row may leave, or where the bank keeps none.
"""

from __future__ import annotations

from typing import Any

from expertbank.artifacts.bundle import BundleWriter
from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import InputError, NotFoundError
from expertbank.kinds import KINDS
from expertbank.records import ExpertRecord
from expertbank.workflows.workspace import Workspace


def add_lineage(
    writer: BundleWriter, workspace: Workspace, expert: ExpertRecord, *, statistics: bool
) -> dict[str, Any]:
    """Write features or statistics, and oracle evidence; what the manifest says of them.

    Args:
        writer: of the bundle.
        workspace: the open bank.
        expert: whose.
        statistics: sums over its training rows, and no row, in place of features.

    Raises:
        NotFoundError: its features were deleted.
        InputError: statistics of an expert whose evidence is texts.
    """
    from expertbank.routing.statistics_file import write_statistics
    from expertbank.workflows.growing.statistics import statistics_of

    if statistics and KINDS.get(expert.kind).writes:
        raise InputError(
            f"{expert.id}: with --statistics no row may leave, and the evidence of a {expert.kind} "
            "expert is what was written and wanted; name the other tasks with --task"
        )
    registry, store = workspace.registry, workspace.store
    (oracle,) = registry.evaluations(expert.id, router_version="oracle")
    features = registry.feature_set(expert.id)
    if expert.run_id is None:
        raise NotFoundError(f"expert {expert.id} has no run on record")
    run = registry.run(expert.run_id)
    if statistics or not features.n_eval:
        what, data = (
            "statistics",
            write_statistics(statistics_of(workspace, expert.id).without_rows()),
        )
    else:
        what, data = "features", store.get(features.digest)
    kept = f"{what}/{sha256_bytes(data)}.safetensors"
    evidence = f"evidence/{oracle.artifact_digest}.safetensors"
    writer.add(kept, data)
    writer.add(evidence, store.get(oracle.artifact_digest))
    return {
        what: kept,
        "evidence": evidence,
        "environment": dict(oracle.environment),
        "run": {
            "kind": run.kind,
            "config": dict(run.config),
            "seed": run.seed,
            "environment": dict(run.environment),
            "data": dict(run.data),
            "seconds": run.seconds,
            "created_at": run.created_at,
        },
    }
