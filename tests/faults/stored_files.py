"""Experts and routers whose files are really in the store, made without training."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

sys.path.append(str(Path(__file__).parents[1] / "registry"))
from expertbank.artifacts.store import ArtifactStore
from expertbank.config import canonical_json
from expertbank.evaluation.evidence import RoutedEvidence, summary
from expertbank.evaluation.predictions import Predictions
from expertbank.records import ArtifactRecord, EvaluationRecord, ExpertRecord, RouterRecord
from expertbank.testing.bank_rows import BACKBONE, SPEC, expert_parts, run, sha

__all__ = ["BACKBONE", "stored_expert", "stored_router"]


def file_of(metadata: dict[str, Any], **rows: int) -> bytes:
    """A sound file: one column of zeros for each name, with so many rows."""
    tensors = {name: np.zeros((count, 1), np.float16) for name, count in rows.items()}
    return save(tensors, metadata={"expertbank": canonical_json(metadata)})


def answers_of(name: str) -> Predictions:
    """Two rows of two labels, of which the first is right."""
    rows = tuple(sha(f"{name} row {row}") for row in range(2))
    return Predictions(np.zeros((2, 2), np.float32), np.array([0, 1], np.int32), rows)


def stored_expert(store: ArtifactStore, task: str, version: int, text: str = "") -> dict[str, Any]:
    """Arguments of ``commit_expert``; equal ones give equal files."""
    parts, name = expert_parts(task, version), f"{task}@{version}"
    expert = parts["expert"]
    about = {"of": name, "text": text, "feature_spec_digest": SPEC.digest}
    own = {"task": task, "kind": expert.kind, "labels": list(expert.labels)}
    weights = {"cores": expert.adapter_params, "head.weight": expert.head_params}
    blobs = {
        "expert": file_of({**about, **own}, **weights),
        "features": file_of(about, train=4, evaluation=2),
        "statistics": save(
            {"total": np.zeros(1, np.int64)}, metadata={"expertbank": canonical_json(about)}
        ),
        "oracle": answers_of(f"{name} {text}").to_bytes(),
    }
    digests = {kind: store.put(blob) for kind, blob in blobs.items()}
    size = len(blobs["features"])
    parts["expert"] = replace(expert, digest=digests["expert"], bytes=len(blobs["expert"]))
    parts["artifacts"] = [ArtifactRecord(digests[k], k, len(b)) for k, b in blobs.items()]
    parts["features"] = replace(
        parts["features"], digest=digests["features"], dimension=1, n_train=4, n_eval=2, bytes=size
    )
    parts["statistics"] = replace(
        parts["statistics"],
        digest=digests["statistics"],
        width=1,
        rows=4,
        bytes=len(blobs["statistics"]),
    )
    parts["evaluations"] = [EvaluationRecord(name, 2, 1, digests["oracle"], {"accuracy": 0.5}, {})]
    return parts


def stored_router(
    store: ArtifactStore, members: Sequence[ExpertRecord], text: str = ""
) -> dict[str, Any]:
    """Arguments of ``commit_router`` but for generation, activation and reason.

    Routers of as many members, odd or even, choose alike.
    """
    named = [[expert.id, expert.digest] for expert in members]
    gate = file_of({"members": named, "text": text}, weight=1)
    home, tasks = f"{len(members) % 2} {text}", [expert.task for expert in members]
    evidence = {
        e.id: RoutedEvidence.of(tasks, np.full(2, place, np.int32), f"{home} {e.id}").to_bytes()
        for place, e in enumerate(members)
    }
    digest = store.put(gate)
    digests = {name: store.put(data) for name, data in evidence.items()}
    ids = tuple(expert.id for expert in members)
    return {
        "router": RouterRecord(0, "ridge", digest, 9, ids, SPEC.digest, {"accuracy": 0.9}),
        "run": replace(run("retrain-router"), data={"evidence": summary(digests)}),
        "artifacts": [
            ArtifactRecord(digest, "router", len(gate)),
            *(ArtifactRecord(digests[name], "routed", len(evidence[name])) for name in ids),
        ],
        "evaluations": [EvaluationRecord(name, 2, 1, digests[name], {}, {}) for name in ids],
    }
