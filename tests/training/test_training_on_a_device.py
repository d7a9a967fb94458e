"""Training happens where the backbone is, and gives what it gives on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import TRAINED, job_for, suiting
from second_device import DEVICES, device_called

from expertbank.backbones.backbone import load_backbone
from expertbank.config import AdapterConfig
from expertbank.training.expert import TrainedExpert, train_expert
from expertbank.training.head import fit_head

WAYS: dict[str, tuple[AdapterConfig, dict[str, Any]]] = {
    "lora, in parts": (AdapterConfig(kind="lora", rank=2), {"accumulate": 3}),
    "uni-lora, recomputed": (
        AdapterConfig(kind="uni-lora"),
        {"checkpoint_layers": True, "cache_bytes": 0},
    ),
}


on_every_device = pytest.mark.parametrize("device", DEVICES)


def both(folder: Path, device: str, **wishes: Any) -> tuple[TrainedExpert, TrainedExpert]:
    """The same job on the CPU and on the other device."""
    wishes = {"rows": 24, "epochs": 1, **wishes}
    here = load_backbone(str(folder), device="cpu")
    expected = train_expert(job_for(here, **wishes), here)
    with device_called(device):
        there = load_backbone(str(folder), device=device)
        found = train_expert(job_for(there, **wishes), there)
    return expected, found


def assert_alike(expected: TrainedExpert, found: TrainedExpert) -> None:
    assert found.selection_score == pytest.approx(expected.selection_score, abs=1e-3)
    for name, tensor in expected.file.tensors.items():
        assert found.file.tensors[name].device.type == "cpu"
        torch.testing.assert_close(found.file.tensors[name], tensor, rtol=0, atol=2e-3)


@on_every_device
@pytest.mark.parametrize("kind", TRAINED)
def test_an_expert_of_each_kind_is_trained_where_the_backbone_is(
    backbone_folder: Callable[[str], Path], kind: str, device: str
) -> None:
    assert_alike(*both(backbone_folder(suiting(kind)), device, kind=kind))


@on_every_device
@pytest.mark.parametrize("way", WAYS)
def test_each_adapter_and_each_way_to_save_memory_trains_there(
    backbone_folder: Callable[[str], Path], way: str, device: str
) -> None:
    adapter, config = WAYS[way]
    assert_alike(*both(backbone_folder("llama"), device, adapter=adapter, **config))


@on_every_device
def test_an_interrupted_training_goes_on_there(
    backbone_folder: Callable[[str], Path], device: str
) -> None:
    folder = str(backbone_folder("bert"))
    with device_called(device):
        there = load_backbone(folder, device=device)
        job, kept = job_for(there, rows=24), list[bytes]()
        whole = train_expert(job, there, keep=kept.append)
        resumed = train_expert(job, there, resume=kept[0])
    for name, tensor in whole.file.tensors.items():
        assert torch.equal(resumed.file.tensors[name], tensor)


@on_every_device
def test_a_head_alone_is_fitted_on_states_from_there(
    backbone_folder: Callable[[str], Path], device: str
) -> None:
    folder = str(backbone_folder("bert"))
    here = load_backbone(folder, device="cpu")
    factors = train_expert(job_for(here), here).file.adapter().collapse()
    factors = {path: (a.detach(), b.detach()) for path, (a, b) in factors.items()}
    expected = fit_head(job_for(here, rows=24), factors, "mean", here)
    with device_called(device):
        there = load_backbone(folder, device=device)
        found = fit_head(job_for(there, rows=24), factors, "mean", there)
    assert found.score == pytest.approx(expected.score, abs=1e-3)
    for name, tensor in expected.tensors.items():
        torch.testing.assert_close(found.tensors[name], tensor, rtol=0, atol=2e-3)
