"""Which settings of training a head that is fitted alone goes by: those that ``import`` takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from jobs import job_for

from expertbank.backbones.backbone import load_backbone
from expertbank.config import TrainConfig
from expertbank.training.expert import train_expert
from expertbank.training.head import fit_head
from expertbank.workflows.growing.effects import OF_ADAPTERS, OF_ROWS

READ: set[str] = set()


class Watched(TrainConfig):
    """Settings that note what is read of them."""

    def __getattribute__(self, name: str) -> Any:
        READ.add(name)
        return super().__getattribute__(name)


def test_every_setting_of_training_is_read_or_is_of_adapters_or_of_rows(
    backbone_folder: Callable[[str], Path],
) -> None:
    here = load_backbone(str(backbone_folder("bert")), device="cpu")
    job = job_for(here)
    factors = train_expert(job, here).file.adapter().collapse()
    factors = {path: (a.detach(), b.detach()) for path, (a, b) in factors.items()}
    watched = Watched(epochs=1)
    READ.clear()
    fit_head(replace(job, config=watched), factors, "mean", here)
    every = {item.name for item in fields(TrainConfig)}
    assert every - READ - OF_ROWS == OF_ADAPTERS
