"""Small training jobs on tiny backbones."""

from __future__ import annotations

from typing import Any

from backbones import keyword_rows, spec_of

from expertbank.config import AdapterConfig, TrainConfig
from expertbank.models.backbone import Backbone
from expertbank.training.expert import ExpertJob


def job_for(
    backbone: Backbone,
    *,
    rows: int = 48,
    adapter: AdapterConfig | None = None,
    **config: Any,
) -> ExpertJob:
    """Which of two words stands in the text; 48 rows train in well under a second."""
    settings = {"epochs": 2, "batch_size": 16, **config}
    return ExpertJob(
        "sky",
        "classification",
        ("red", "blue"),
        keyword_rows(rows, 1, "blue", "red"),
        keyword_rows(24, 2, "blue", "red"),
        adapter or AdapterConfig(tt_rank=3),
        TrainConfig(**settings),
        spec_of(backbone),
    )
