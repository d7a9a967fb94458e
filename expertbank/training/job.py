"""What decides an expert: one picklable job, and its digest."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace

import torch

from expertbank.adapters import ADAPTERS
from expertbank.adapters.by_rows import suited_to
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


def settled(
    adapter: AdapterConfig, train: TrainConfig, spec: FeatureSpec, backbone: Backbone, rows: int
) -> tuple[AdapterConfig, TrainConfig]:
    """What was left open is decided, as an expert's lineage has it.

    Args:
        adapter: what was wished for.
        train: how it is to be trained.
        spec: the bank's.
        backbone: the frozen model.
        rows: training rows, those held out among them.

    Raises:
        InputError, UnsupportedModelError: settings that the backbone or the kind does not have.
    """
    suited = suited_to(rows, adapter, train, spec, backbone)
    suited = replace(suited, alpha=suited.multiplier(spec))
    kind = ADAPTERS.get(suited.kind)
    return kind.settled(suited), replace(train, lr=rate_of(train, suited))


def rate_of(config: TrainConfig, adapter: AdapterConfig) -> float:
    """Peak learning rate, where it was left open that of the kind of adapter."""
    return ADAPTERS.get(adapter.kind).rate_of(adapter) if config.lr is None else config.lr


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
