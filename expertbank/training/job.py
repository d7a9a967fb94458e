"""What decides an expert: one picklable job, and its digest."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

import torch

from expertbank.backbones.backbone import Backbone
from expertbank.config import AdapterConfig, FeatureSpec, TrainConfig, canonical_json
from expertbank.records import EncodedRow
from expertbank.writing import Writing


@dataclass(frozen=True, slots=True)
class ExpertJob:
    """All that decides an expert, apart from the backbone; picklable.

    Attributes:
        task: name of the task.
        kind: name of the task's kind.
        labels: class names in head order.
        train: encoded training rows with targets.
        selection: encoded held-out training rows; they choose the checkpoint.
        adapter: shape of the adapter.
        config: how to train.
        spec: the bank's feature spec.
        writing: how answers are written, where the kind writes.
    """

    task: str
    kind: str
    labels: tuple[str, ...]
    train: tuple[EncodedRow, ...]
    selection: tuple[EncodedRow, ...]
    adapter: AdapterConfig
    config: TrainConfig
    spec: FeatureSpec
    writing: Writing | None = None


def job_digest(job: ExpertJob, backbone: Backbone) -> str:
    """SHA-256 of all that decides the bytes of the expert."""
    digest = hashlib.sha256()
    settings = [
        job.task,
        job.kind,
        list(job.labels),
        asdict(job.adapter),
        asdict(job.config),
        job.spec.digest,
        backbone.digest,
        str(backbone.device),
        torch.__version__,
        torch.get_num_threads(),
    ]
    if job.writing is not None:
        settings.append(job.writing.to_dict())
    digest.update(canonical_json(settings).encode())
    for row in (*job.train, *job.selection):
        digest.update(repr((row.sequences, row.type_ids, row.target)).encode())
        for more in filter(None, (row.continuation, row.ending, row.second)):
            digest.update(bytes(repr(more), "ascii"))
    return digest.hexdigest()
