"""Small training jobs on tiny backbones."""

from __future__ import annotations

from typing import Any

from tiny import choice_rows, flag_rows, keyword_rows, spec_of, value_rows, written_rows

from expertbank.backbones.backbone import Backbone
from expertbank.backbones.language import language_head
from expertbank.config import AdapterConfig, TrainConfig
from expertbank.kinds import KINDS
from expertbank.records import EncodedRow
from expertbank.training.expert import ExpertJob
from expertbank.writing import Writing

TRAINED = tuple(name for name, kind in KINDS.usable() if not kind.elsewhere)
"""Kinds whose experts are trained."""


def rows_of_kind(kind: str, count: int, seed: int) -> tuple[EncodedRow, ...]:
    """Rows that can be learnt: a word decides the class, the choice or the value."""
    if kind == "multiple_choice":
        return choice_rows(count, seed, "blue")
    if kind == "multi_label":
        return flag_rows(count, seed, "blue", "red", "green")
    if kind == "generation":
        return written_rows(count, seed, "blue", "red")
    rows = value_rows if kind == "regression" else keyword_rows
    return rows(count, seed, "blue", "red")


def job_for(
    backbone: Backbone,
    *,
    rows: int = 48,
    kind: str = "classification",
    adapter: AdapterConfig | None = None,
    **config: Any,
) -> ExpertJob:
    """By default which of two words stands in the text; 48 rows train in well under a second."""
    settings = {"epochs": 2, "batch_size": 16, **config}
    labels = {
        "classification": ("red", "blue"),
        "multi_label": ("blue", "red", "green"),
        "multiple_choice": ("0", "1", "2", "3", "4"),
        "regression": (),
        "generation": (),
    }
    writes = KINDS.get(kind).writes
    return ExpertJob(
        "sky",
        kind,
        labels[kind],
        rows_of_kind(kind, rows, 1),
        rows_of_kind(kind, 24, 2),
        adapter or AdapterConfig(tt_rank=3),
        TrainConfig(**settings),
        spec_of(backbone),
        Writing("\n", (), 4, language_head(backbone).digest) if writes else None,
    )


def suiting(kind: str) -> str:
    """A tiny backbone on which an expert of ``kind`` can be trained."""
    return "llama, tied" if KINDS.get(kind).writes else "bert"
