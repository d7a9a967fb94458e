"""In every family: a step of training, the file it gives, one pass, and padding on either side."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import SUPPORTED, UNLISTED, random_rows, spec_of
from torch import Tensor

from expertbank.adapters import hooks
from expertbank.adapters.pool import ExpertPool
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import collate
from expertbank.backbones.features import pool, scale_to_unit_rms
from expertbank.backbones.running import call_backbone
from expertbank.config import AdapterConfig, TrainConfig
from expertbank.errors import InputError
from expertbank.models.expert_file import ExpertFile
from expertbank.models.heads import head_input
from expertbank.models.routed import RoutedModel
from expertbank.training.expert import ExpertJob, TrainedExpert, train_expert


def train(backbone: Backbone, **adapter: Any) -> TrainedExpert:
    """One step on sixteen rows, at a rate that shows."""
    job = ExpertJob(
        "colour",
        "classification",
        ("no", "yes"),
        random_rows(16, 1),
        random_rows(8, 2),
        AdapterConfig(tt_rank=3, alpha=4.0, **adapter),
        TrainConfig(epochs=1, batch_size=16, lr=0.5, warmup=0.0),
        spec_of(backbone),
    )
    return train_expert(job, backbone)


def routed_logits(backbone: Backbone, file: ExpertFile) -> Tensor:
    expert = file.collapse("colour@1", backbone.device, torch.float32)
    model = RoutedModel(backbone, spec_of(backbone), ExpertPool.holding({"colour@1": expert}))
    batch = collate(random_rows(6, 3), range(6), backbone.tokenizer.pad_token_id, backbone.device)
    return model(batch, lambda features, rows: ["colour@1"] * len(rows)).logits


NAMED = {"mpnet": ("attn.q", "attn.v"), "granite": ("o_proj", "up_proj"), "gpt2": ("c_fc",)}
"""Modules by name, in families within the table and outside it."""


@pytest.mark.parametrize(
    ("family", "modules"), [*((family, ()) for family in (*SUPPORTED, *UNLISTED)), *NAMED.items()]
)
def test_a_step_is_learnt_written_read_and_answered_in_one_pass(
    load_tiny, family: str, modules: tuple[str, ...], tmp_path: Path
) -> None:
    backbone = load_tiny(family)
    weights = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    trained = train(backbone, modules=modules)
    for name, tensor in backbone.model.state_dict().items():
        assert torch.equal(tensor, weights[name]), f"{name} of the frozen backbone changed"
    last_cores = [
        trained.file.tensors[f"cores.{index}.{len(group.shape.factors) - 1}"]
        for index, group in enumerate(trained.file.adapter().groups)
    ]
    assert all(core.any() for core in last_cores), "every group took a step away from zero"

    written = tmp_path / "expert.safetensors"
    written.write_bytes(trained.file.to_bytes())
    again = ExpertFile.from_bytes(written.read_bytes(), str(written))
    assert again.pooling == backbone.family.pooling
    logits = routed_logits(backbone, trained.file)
    assert torch.equal(logits, routed_logits(load_tiny(family), again))

    # The reference knows nothing of pools, files or routes: hooks bound by hand, a plain head.
    batch = collate(random_rows(6, 3), range(6), backbone.tokenizer.pad_token_id, backbone.device)
    bare = load_tiny(family)
    with torch.no_grad():
        factors = again.adapter().collapse()
        with hooks.bound(bare.model, lambda: factors, list(factors)):
            last = call_backbone(bare, batch)
    pooled = head_input(last, batch, bare.family.pooling)
    expected = pooled @ again.tensors["head.weight"].T + again.tensors["head.bias"]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


NUMBERED = {"bert", "electra", "distilbert", "gpt2"}
"""Families that number positions from the left edge, padding or not, unless told."""


@pytest.mark.parametrize("family", SUPPORTED)
def test_padding_on_either_side_gives_the_same_answer(load_tiny, family: str) -> None:
    backbone = load_tiny(family)
    pad = backbone.tokenizer.pad_token_id
    file = train(backbone).file
    with torch.no_grad():
        factors = file.adapter().collapse()
    rows = [row.sequences[0] for row in random_rows(4, 5, lengths=(3, 5, 9, 12))]
    width = max(len(row) for row in rows)
    accepted = inspect.signature(backbone.model.forward).parameters
    if family in NUMBERED and "position_ids" not in accepted:
        pytest.skip("this release of transformers cannot number this family's positions")

    def answer(*, left: bool) -> Tensor:
        ids = torch.full((len(rows), width), pad)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            place = slice(width - len(row), width) if left else slice(0, len(row))
            ids[index, place], mask[index, place] = torch.tensor(row), 1
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if family in NUMBERED:
            inputs["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)
        if "use_cache" in accepted:
            inputs["use_cache"] = False
        with torch.no_grad(), hooks.bound(backbone.model, lambda: factors, list(factors)):
            last = backbone.model(**inputs).last_hidden_state
        return scale_to_unit_rms(pool(last, mask, file.pooling))

    torch.testing.assert_close(answer(left=True), answer(left=False), rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_the_wished_pooling_is_trained_stored_and_served(
    load_tiny, family: str, pooling: str
) -> None:
    backbone = load_tiny(family)
    file = train(backbone, pooling=pooling).file
    assert file.pooling == pooling
    found = routed_logits(backbone, file)
    batch = collate(random_rows(6, 3), range(6), 0, backbone.device)
    with torch.no_grad():
        factors = file.adapter().collapse()
        with hooks.bound(backbone.model, lambda: factors, list(factors)):
            last = call_backbone(backbone, batch)
    ends = batch.attention_mask.sum(1) - 1
    read = {
        "first": last[:, 0],
        "last": last[torch.arange(6), ends],
        "mean": torch.stack(
            [state[: end + 1].mean(0) for state, end in zip(last, ends, strict=True)]
        ),
    }[pooling]
    read = read / read.pow(2).mean(1, keepdim=True).sqrt()
    expected = read @ file.tensors["head.weight"].T + file.tensors["head.bias"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_experts_of_different_pooling_share_a_batch(load_tiny) -> None:
    backbone = load_tiny("bert")
    poolings = ("mean", "first", "last", "first")
    experts = {
        f"{index}@1": replace(
            train(backbone, pooling=pooling).file.collapse("", torch.device("cpu"), torch.float32),
            id=f"{index}@1",
        )
        for index, pooling in enumerate(poolings)
    }
    assert [expert.pooling for expert in experts.values()] == list(poolings)
    model = RoutedModel(backbone, spec_of(backbone), ExpertPool.holding(experts))
    rows = random_rows(12, 4)
    mixed = model(
        collate(rows, range(12), 0, backbone.device),
        lambda features, places: [f"{place % 4}@1" for place in places],
    )
    for row in range(12):
        name = f"{row % 4}@1"
        alone = model(collate(rows, [row], 0, backbone.device), lambda f, p, name=name: [name])
        torch.testing.assert_close(mixed.logits[row], alone.logits[0], rtol=0, atol=1e-4)


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(InputError, match="auto, mean, first, last or pair"):
        AdapterConfig(pooling="max")
