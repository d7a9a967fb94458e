"""Every tensor from rows to answers is made where the model is, and is of a type it has there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from second_device import DEVICES, Elsewhere, device_called, second_device
from test_routed import by_row, expert_of
from test_writing import experts_of, passed, routed_model
from tiny import choice_rows, random_rows, spec_of

from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.stack import CollapsedExpert, Dense
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.backbones.batches import collate
from expertbank.models.routed import RoutedModel
from expertbank.models.writing import WriteOptions
from expertbank.writing import Sampling

PASSES = (("bert", 2), ("gemma2", 2), ("gpt2", 0))


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    with device_called(request.param) as there:
        yield there


@pytest.fixture
def on_both(
    backbone_folder: Callable[[str], Path], device
) -> Callable[[str], tuple[Backbone, ...]]:
    """A family's tiny backbone on the CPU, and on the other device."""

    def loaded(family: str) -> tuple[Backbone, ...]:
        folder = str(backbone_folder(family))
        return tuple(load_backbone(folder, device=place) for place in ("cpu", device))

    return loaded


def moved(expert: CollapsedExpert, device: torch.device) -> CollapsedExpert:
    factors = {path: (a.to(device), b.to(device)) for path, (a, b) in expert.factors.items()}
    head = expert.head_weight.to(device), expert.head_bias.to(device)
    dense = expert.dense and replace(
        expert.dense, weight=expert.dense.weight.to(device), bias=expert.dense.bias.to(device)
    )
    return replace(expert, factors=factors, head_weight=head[0], head_bias=head[1], dense=dense)


def test_what_is_on_the_made_up_device_meets_nothing_of_the_cpu_and_has_no_float64() -> None:
    with second_device() as device:
        there = torch.ones(2, 2, device=device)
        assert isinstance(there, Elsewhere)
        assert torch.equal((there @ there).cpu(), torch.full((2, 2), 2.0))
        for wrong in (
            lambda: there + torch.ones(2, 2),
            lambda: there[torch.tensor([0])],
            lambda: torch.cat([there, torch.ones(1, 2)]),
            lambda: torch.randn(2, device=device, generator=torch.Generator()),
        ):
            with pytest.raises(RuntimeError, match="CPU"):
                wrong()
        with pytest.raises(TypeError, match="float64"):
            there.double()
        with pytest.raises(TypeError, match="copy"):
            there.numpy()


def mixed_experts(backbone: Backbone) -> dict[str, CollapsedExpert]:
    """Heads of three widths, one with a layer before it, one that scores choices."""
    width = backbone.output_size
    made = [
        expert_of(backbone, "a@1", 0, classes=2),
        replace(
            expert_of(backbone, "b@1", 1, classes=3),
            dense=Dense(torch.eye(width), torch.zeros(width), "tanh"),
            pooling="first",
            thresholds=torch.zeros(3),
        ),
        expert_of(backbone, "c@1", 2, classes=1, scores_sequences=True),
    ]
    return {expert.id: expert for expert in made}


@pytest.mark.parametrize(("family", "route_layer"), PASSES)
def test_a_mixed_batch_is_routed_and_answered_where_the_backbone_is(
    on_both, family: str, route_layer: int
) -> None:
    here, there = on_both(family)
    experts = mixed_experts(here)
    paper = {} if route_layer else {"states": (len(here.layers),), "poolings": ("last",)}
    plain, choices = random_rows(4, 1), choice_rows(2, 2, "blue")
    # Row 2 is the third expert's, which scores choices.
    rows = [plain[0], plain[1], choices[0], plain[2], plain[3], choices[1]]
    outputs = []
    for backbone in (here, there):
        own = {name: moved(one, backbone.device) for name, one in experts.items()}
        model = RoutedModel(
            backbone, spec_of(backbone, route_layer, **paper), ExpertPool.holding(own)
        )
        batch = collate(rows, range(6), 0, backbone.device)
        outputs.append(model(batch, by_row))
    expected, found = outputs
    assert found.logits.device.type == found.features.device.type == there.device.type
    torch.testing.assert_close(found.logits.cpu(), expected.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.features.cpu(), expected.features, rtol=1e-2, atol=2e-3)


def by_itself(row: int) -> Sampling:
    return Sampling(temperature=1.2, seed=row) if row % 2 else Sampling()


@pytest.mark.parametrize("family", ["llama, tied", "gpt_neox, own"])
def test_answers_are_written_and_drawn_where_the_backbone_is(on_both, family: str) -> None:
    here, there = on_both(family)
    texts = []
    for backbone in (here, there):
        experts = {n: moved(e, backbone.device) for n, e in experts_of(backbone).items()}
        output = passed(routed_model(backbone, experts), WriteOptions(by_itself))
        texts.append([one and (one.text, one.tokens, one.finish) for one in output.written])
    assert texts[0] == texts[1]
