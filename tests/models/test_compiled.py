"""A backbone under torch.compile answers as it does uncompiled, or is refused; never otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from test_routed import NAMES, always, by_row, expert_of
from test_writing import experts_of, passed, routed_model
from test_writing import rows as written_on
from tiny import random_rows, spec_of
from torch import nn

from expertbank.adapters.pool import ExpertPool
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import Batch, collate
from expertbank.backbones.running import call_backbone, run_backbone, step_backbone
from expertbank.errors import UnsupportedModelError
from expertbank.models.routed import RoutedModel


@pytest.fixture(autouse=True)
def no_graphs_of_others() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(params=["bert", "llama"])
def backbone(load_tiny, request: pytest.FixtureRequest) -> Backbone:
    return load_tiny(request.param)


def routed(backbone: Backbone) -> RoutedModel:
    found = {
        name: expert_of(backbone, name, seed, classes=2 + seed, first_layer=first)
        for seed, (name, first) in enumerate(zip(NAMES, (2, 0, 2), strict=True))
    }
    return RoutedModel(backbone, spec_of(backbone), ExpertPool.holding(found))


def batch_of(backbone: Backbone, count: int = 6) -> Batch:
    return collate(random_rows(count, 1), range(count), 0, backbone.device)


def compile_in_place(model: nn.Module) -> None:
    model.compile(backend="eager")


def compile_layers(model: nn.Module) -> None:
    for module in model.modules():
        if type(module).__name__ in {"BertLayer", "LlamaDecoderLayer"}:
            module.compile(backend="eager")


def compile_from_outside(model: nn.Module) -> None:
    """What a caller does who swaps ``forward`` for the compiled one."""
    model.forward = torch.compile(model.forward, backend="eager")


COMPILES = [
    compile_layers,
    pytest.param(compile_in_place, marks=pytest.mark.slow),
    pytest.param(compile_from_outside, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("compile_it", COMPILES)
def test_a_compiled_backbone_gives_the_same_answers_whatever_expert_ran_first(
    backbone: Backbone, compile_it
) -> None:
    model = routed(backbone)
    batch = batch_of(backbone)
    decides = [*(always(name) for name in NAMES), by_row]
    wanted = [model(batch, decide) for decide in decides]
    features = model.trunk_features(batch)
    assert not torch.equal(wanted[0].logits[:, 0], wanted[1].logits[:, 0]), "experts differ"
    compile_it(backbone.model)
    assert torch.equal(model.trunk_features(batch), features)
    for decide, expected in zip(decides, wanted, strict=True):
        torch.testing.assert_close(model(batch, decide).logits, expected.logits)
        assert torch.equal(model(batch, decide).features, expected.features)


@pytest.mark.slow
def test_a_backbone_that_was_compiled_and_run_before_is_refused_not_answered_unadapted(
    backbone: Backbone,
) -> None:
    batch = batch_of(backbone)
    compile_in_place(backbone.model)
    with torch.no_grad():
        call_backbone(backbone, batch)
    model = routed(backbone)
    for run in (lambda: model(batch, by_row), lambda: model.trunk_features(batch)):
        with pytest.raises(UnsupportedModelError, match="hooks"):
            run()
    torch.compiler.reset()
    compiled = model(batch, by_row).logits
    backbone.model._compiled_call_impl = None
    torch.testing.assert_close(compiled, model(batch, by_row).logits)


@pytest.mark.slow
@pytest.mark.parametrize("early", [False, True])
def test_answers_written_by_a_compiled_backbone_are_adapted_or_refused(
    load_tiny, early: bool
) -> None:
    backbone = load_tiny("llama, tied")
    expected = passed(routed_model(backbone, experts_of(backbone))).written
    compiled = load_tiny("llama, tied")
    experts = experts_of(compiled)
    compile_in_place(compiled.model)
    if early:
        batch = collate(written_on(), range(4), 0, compiled.device, left=True)
        with torch.no_grad():
            cache = run_backbone(compiled, batch, keep=True).past_key_values
            mask = torch.cat([batch.attention_mask, torch.ones(4, 1, dtype=torch.long)], 1)
            ids, lengths = torch.tensor([5, 6, 7, 8]), batch.attention_mask.sum(1)
            step_backbone(compiled, ids, mask, lengths, cache)
        with pytest.raises(UnsupportedModelError, match="compiled"):
            passed(routed_model(compiled, experts))
        return
    assert passed(routed_model(compiled, experts)).written == expected
