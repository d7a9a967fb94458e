"""Where a report's figures come from: names, moments and digests, nothing computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ExpertLineage:
    """One expert: what it is and what it was made from.

    Attributes:
        id: ``task@version``.
        digest: SHA-256 of its file: cores, head and labels.
        added_at: UTC moment.
        source: where its rows came from.
        data: split to SHA-256 over its rows.
        evidence: SHA-256 of the stored predictions of the evaluation rows.
        seed: of its training.
    """

    id: str
    digest: str
    added_at: str
    source: str
    data: Mapping[str, str]
    evidence: str
    seed: int


@dataclass(frozen=True, slots=True)
class RouterLineage:
    """One router: its version, gate, digest, members and groups (by name the tasks in each)."""

    version: int
    kind: str
    digest: str
    trained_at: str
    members: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lineage:
    """What the report rests on.

    Attributes:
        backbone: reference of the frozen model.
        backbone_digest: of its weights, architecture and tokenizer.
        feature_spec: what the bank fixed at ``init``.
        experts: one per task of the report.
        routers: those of the matrix and the one the report starts from.
        packages: name to version, of the evaluation under the router reported on.
    """

    backbone: str
    backbone_digest: str
    feature_spec: Mapping[str, Any]
    experts: tuple[ExpertLineage, ...]
    routers: tuple[RouterLineage, ...]
    packages: Mapping[str, str]
