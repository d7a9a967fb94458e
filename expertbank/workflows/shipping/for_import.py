"""What a bundle carries of an expert's past, so that another bank can take it over.

Cached features are made from a user's rows: they go into a bundle only on request.
"""

from __future__ import annotations

from typing import Any

from expertbank.artifacts.bundle import BundleWriter
from expertbank.errors import NotFoundError
from expertbank.records import ExpertRecord
from expertbank.workflows.workspace import Workspace


def add_lineage(writer: BundleWriter, workspace: Workspace, expert: ExpertRecord) -> dict[str, Any]:
    """Write features and oracle evidence of ``expert``; what the manifest says of them.

    Raises:
        NotFoundError: its features were deleted.
    """
    registry, store = workspace.registry, workspace.store
    (oracle,) = registry.evaluations(expert.id, router_version="oracle")
    features = registry.feature_set(expert.id)
    if expert.run_id is None:
        raise NotFoundError(f"expert {expert.id} has no run on record")
    run = registry.run(expert.run_id)
    files = {
        "features": (f"features/{features.digest}.safetensors", features.digest),
        "evidence": (f"evidence/{oracle.artifact_digest}.safetensors", oracle.artifact_digest),
    }
    for name, digest in files.values():
        writer.add(name, store.get(digest))
    return {
        "features": files["features"][0],
        "evidence": files["evidence"][0],
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
