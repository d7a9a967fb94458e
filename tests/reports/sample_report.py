"""A forgetting report over random evidence: many tasks, every verdict, hostile names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from expertbank.config import sha256_text
from expertbank.evaluation.history import RouterView, TaskHistory
from expertbank.evaluation.lineage import ExpertLineage, Lineage, RouterLineage
from expertbank.evaluation.outcome import Answered, Correlated, Counted, Outcome
from expertbank.reports.build import build_report
from expertbank.reports.forgetting import ForgettingReport

HOSTILE = "</title><script>alert(1)</script>\"'&"
NAMES = ("boolq", "cb", "cola", "csqa", "mnli", "mrpc", "qnli", "rte", "sick", "sst2", "stsb")


def sample_report(names: tuple[str, ...] = NAMES, *, seed: int = 0) -> ForgettingReport:
    """A router after each task. Early routes are kept, but the second task loses many rows, the
    third has few rows of which some move, and the fourth loses hardly any; the last is a
    regression."""
    rng = np.random.default_rng(seed)
    histories = [_history(names, place, rng) for place in range(len(names))]
    return replace(
        build_report(histories, router=len(names), lineage=_lineage(names)),
        verification={
            name: {
                "rows": 40,
                "of": 400,
                "unverifiable": int(name == names[0]),
                "max_logit_difference": 1.2e-6,
                "same_environment": True,
                "within_tolerance": [],
            }
            for name in names
        },
    )


def _history(names: tuple[str, ...], place: int, rng: np.random.Generator) -> TaskHistory:
    name, rows = names[place], 30 if place == 2 else 1500
    digests = tuple(sha256_text(f"{name} {row}") for row in range(rows))
    targets = rng.integers(0, 2, rows).astype(np.int32)
    logits = rng.normal(size=(rows, 2)).astype(np.float32)
    logits[np.arange(rows), targets] += 1.5
    outcome: Outcome = Counted(logits.argmax(1) == targets)
    if place == len(names) - 1:
        values = rng.normal(size=(rows, 1)).astype(np.float32)
        outcome = Correlated(
            values[:, 0], (values[:, 0] + rng.normal(size=rows)).astype(np.float32)
        )
    oracle = Answered(outcome, digests)
    choice = np.full(rows, place, dtype=np.int32)
    views = []
    for version in range(place + 1, len(names) + 1):
        moving = {1: 0.006, 2: 0.006, 3: 0.0007}.get(place, 0.0)
        moved = rng.random(rows) < moving
        choice = np.where(moved, rng.integers(0, version, rows), choice).astype(np.int32)
        columns = tuple((task,) for task in names[:version])
        views.append(RouterView(version, columns, choice))
    values = place == len(names) - 1
    return TaskHistory(
        name,
        f"{name}@1",
        rows,
        outcome.quality(),
        True,
        oracle,
        tuple(views),
        majority=None if values else 0.5 + 0.04 * place,
        # One expert is no better than its majority class.
        p_beats_majority=None if values else 0.4 if place == 5 else 0.0001,
    )


def _lineage(names: tuple[str, ...]) -> Lineage:
    return Lineage(
        "sentence-transformers/all-MiniLM-L6-v2",
        sha256_text("backbone"),
        {"route_layer": 2, "max_length": 128, "dtype": "float32"},
        tuple(
            ExpertLineage(
                f"{name}@1",
                sha256_text(name),
                "2026-01-02T03:04:05.678+00:00",
                f"/data/{name}/validation.parquet",
                {"train": sha256_text(f"{name} train"), "validation": sha256_text(f"{name} val")},
                sha256_text(f"{name} evidence"),
                0,
            )
            for name in names
        ),
        tuple(
            RouterLineage(
                number,
                "ridge",
                sha256_text(f"router {number}"),
                "2026-01-02T03:04:05+00:00",
                tuple(f"{name}@1" for name in names[:number]),
            )
            for number in range(1, len(names) + 1)
        ),
        {"expertbank": "0.1.0", "numpy": "2.4"},
    )
