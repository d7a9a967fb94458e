"""One pass serves rows that need different experts, as each would be served alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from tiny import HIDDEN, choice_rows, random_rows, spec_of
from torch import Tensor

from expertbank.adapters import hooks
from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.stack import CollapsedExpert, Dense
from expertbank.adapters.targets import find_targets
from expertbank.adapters.tt import TTAdapter, group_targets
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import collate
from expertbank.backbones.running import call_backbone
from expertbank.errors import InputError, IntegrityError, UnsupportedModelError
from expertbank.models.heads import head_input
from expertbank.models.routed import Decide, RoutedModel
from expertbank.records import Activation, EncodedRow

NAMES = ("a@1", "b@1", "c@1")


def expert_of(
    backbone: Backbone,
    name: str,
    seed: int,
    *,
    classes: int = 2,
    first_layer: int = 2,
    scores_sequences: bool = False,
) -> CollapsedExpert:
    generator = torch.Generator().manual_seed(seed)
    targets = find_targets(backbone.model, backbone.family, first_layer, ("query", "value"))
    adapter = TTAdapter.fresh(group_targets(targets, 2 + seed), 4.0, generator)
    with torch.no_grad():
        for core in adapter.parameters():
            core.copy_(torch.randn(core.shape, generator=generator) * 0.5)
        factors = adapter.collapse()
    weight = torch.randn(classes, HIDDEN, generator=generator) / HIDDEN**0.5
    bias = torch.randn(classes, generator=generator)
    return CollapsedExpert(name, factors, weight, bias, scores_sequences, backbone.family.pooling)


def always(name: str) -> Decide:
    return lambda features, rows: [name] * len(rows)


def by_row(features: Tensor, rows: Sequence[int]) -> list[str]:
    return [NAMES[row % 3] for row in rows]


@pytest.fixture(params=["bert", "llama"])
def backbone(load_tiny, request: pytest.FixtureRequest) -> Backbone:
    return load_tiny(request.param)


@pytest.fixture(params=[2, 1, 0], ids=["branch", "one below", "one at full depth"])
def experts(backbone: Backbone, request: pytest.FixtureRequest) -> dict[str, CollapsedExpert]:
    """Three experts; the second begins where it is told."""
    first = {"b@1": request.param}
    return {
        name: expert_of(backbone, name, seed, classes=2 + seed, first_layer=first.get(name, 2))
        for seed, name in enumerate(NAMES)
    }


@pytest.fixture
def model(backbone: Backbone, experts: dict[str, CollapsedExpert]) -> RoutedModel:
    return RoutedModel(backbone, spec_of(backbone), ExpertPool.holding(experts))


def test_a_named_expert_answers_as_its_adapter_bound_by_hand(
    model: RoutedModel, backbone: Backbone, experts: dict[str, CollapsedExpert]
) -> None:
    batch = collate(random_rows(6, 1), range(6), 0, backbone.device)
    expert = experts["b@1"]
    with (
        torch.no_grad(),
        hooks.bound(backbone.model, lambda: expert.factors, list(expert.factors)),
    ):
        last = call_backbone(backbone, batch)
    pooled = head_input(last, batch, backbone.family.pooling)
    expected = pooled @ expert.head_weight.T + expert.head_bias
    output = model(batch, always("b@1"))
    assert torch.equal(output.logits, expected)
    assert output.experts == ("b@1",) * 6


def test_a_mixed_batch_equals_serial_passes(model: RoutedModel, backbone: Backbone) -> None:
    rows = random_rows(12, 2)
    output = model(collate(rows, range(12), 0, backbone.device), by_row)
    assert output.experts == tuple(NAMES[row % 3] for row in range(12))
    for row in range(12):
        alone = model(collate(rows, [row], 0, backbone.device), always(NAMES[row % 3]))
        classes = alone.logits.shape[1]
        torch.testing.assert_close(output.logits[row, :classes], alone.logits[0], rtol=0, atol=1e-4)
        assert (output.logits[row, classes:] == float("-inf")).all()


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_heads_that_read_in_their_own_ways_answer_in_one_batch_as_alone(
    activation: Activation, backbone: Backbone, experts: dict[str, CollapsedExpert]
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(HIDDEN, HIDDEN, generator=generator) / HIDDEN**0.5
    layer = Dense(weight, torch.randn(HIDDEN, generator=generator), activation)
    experts["a@1"] = replace(experts["a@1"], scaled=False, pooling="first", dense=layer)
    experts["b@1"] = replace(experts["b@1"], scaled=False)
    mixed = RoutedModel(backbone, spec_of(backbone), ExpertPool.holding(experts))
    test_a_mixed_batch_equals_serial_passes(mixed, backbone)
    batch = collate(random_rows(6, 1), range(6), 0, backbone.device)
    expert = experts["a@1"]
    with torch.no_grad(), hooks.bound(backbone.model, lambda: expert.factors, expert.factors):
        pooled = call_backbone(backbone, batch)[:, 0]
    act = {"tanh": torch.tanh, "relu": torch.relu, "gelu": torch.nn.functional.gelu}[activation]
    read = act(pooled @ layer.weight.T + layer.bias)
    wanted = read @ expert.head_weight.T + expert.head_bias
    found = mixed(batch, always("a@1")).logits
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_padding_and_company_move_logits_by_rounding_only(
    model: RoutedModel, backbone: Backbone
) -> None:
    rows = random_rows(20, 3, lengths=(3, 5, 28))
    by_position: dict[int, list[Tensor]] = {row: [] for row in range(20)}
    for size in (1, 3, 7, 20):
        for batch in model.batches(rows, size):
            for position, logits in zip(
                batch.rows, model(batch, always("c@1")).logits, strict=True
            ):
                by_position[position].append(logits)
    for found in by_position.values():
        spread = torch.stack(found)
        assert len(found) == 4
        assert (spread.amax(0) - spread.amin(0)).max() < 1e-4


def test_the_same_pass_twice_gives_the_same_bits(model: RoutedModel, backbone: Backbone) -> None:
    batch = collate(random_rows(9, 4), range(9), 0, backbone.device)
    assert torch.equal(model(batch, by_row).logits, model(batch, by_row).logits)


def test_the_decision_reads_the_features_of_the_trunk_bit_for_bit(
    model: RoutedModel, backbone: Backbone
) -> None:
    batch = collate(random_rows(9, 5), range(9), 0, backbone.device)
    seen: list[Tensor] = []
    asked: list[Sequence[int]] = []

    def decide(features: Tensor, rows: Sequence[int]) -> list[str]:
        seen.append(features)
        asked.append(rows)
        return by_row(features, rows)

    output = model(batch, decide)
    assert len(seen) == 1
    assert tuple(asked[0]) == tuple(range(9))
    assert torch.equal(output.features, seen[0])
    assert torch.equal(output.features, model.trunk_features(batch))


def test_a_pass_leaves_nothing_behind(load_tiny, model: RoutedModel, backbone: Backbone) -> None:
    batch = collate(random_rows(4, 6), range(4), 0, backbone.device)
    weights = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    model(batch, by_row)

    def fail(features: Tensor, rows: Sequence[int]) -> list[str]:
        raise RuntimeError("no decision")

    with pytest.raises(RuntimeError, match="no decision"):
        model(batch, fail)
    bare = load_tiny(str(backbone.model.config.model_type))
    assert torch.equal(call_backbone(backbone, batch), call_backbone(bare, batch))
    for name, tensor in backbone.model.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_threads_with_different_experts_do_not_see_each_other(
    model: RoutedModel, backbone: Backbone
) -> None:
    batch = collate(random_rows(5, 7), range(5), 0, backbone.device)
    expected = {name: model(batch, always(name)).logits for name in NAMES}
    barrier = threading.Barrier(3)
    same: list[bool] = []

    def work(name: str) -> None:
        def decide(features: Tensor, rows: Sequence[int]) -> list[str]:
            barrier.wait(timeout=60)  # all three are half-way up their passes now
            return [name] * len(rows)

        for _ in range(10):
            same.append(torch.equal(model(batch, decide).logits, expected[name]))

    threads = [threading.Thread(target=work, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert same == [True] * 30


def choosing_model(backbone: Backbone) -> RoutedModel:
    """An expert of three classes, one that scores choices, one of a value, one of two classes."""
    experts = {
        "plain@1": expert_of(backbone, "plain@1", 0, classes=3),
        "pick@1": expert_of(backbone, "pick@1", 1, classes=1, scores_sequences=True),
        "value@1": expert_of(backbone, "value@1", 2, classes=1),
        "two@1": expert_of(backbone, "two@1", 3, classes=2),
    }
    return RoutedModel(backbone, spec_of(backbone), ExpertPool.holding(experts))


def test_a_mixed_batch_of_all_kinds_equals_serial_passes(backbone: Backbone) -> None:
    model = choosing_model(backbone)
    plain, picks = random_rows(9, 8), choice_rows(8, 9, "blue")
    assert len({len(row.sequences) for row in picks}) > 2
    rows, names = [], []
    for place, row in enumerate((*plain, *picks)):
        rows.append(row)
        kind = ("plain@1", "value@1", "two@1")[place % 3]
        names.append("pick@1" if len(row.sequences) > 1 else kind)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(0)).tolist()
    batch = collate(rows, order, 0, backbone.device)
    output = model(batch, lambda features, places: [names[place] for place in places])
    assert output.rows == tuple(order)
    assert output.features.shape[0] == output.logits.shape[0] == 17
    for place, row in enumerate(order):
        alone = model(collate(rows, [row], 0, backbone.device), always(names[row]))
        own = {"plain@1": 3, "two@1": 2, "value@1": 1}.get(names[row], len(rows[row].sequences))
        assert alone.logits.shape == (1, own)
        torch.testing.assert_close(output.logits[place, :own], alone.logits[0], rtol=0, atol=1e-4)
        assert (output.logits[place, own:] == float("-inf")).all()


def test_a_row_of_several_choices_is_routed_once_by_the_mean_of_its_choices(
    backbone: Backbone,
) -> None:
    model = choosing_model(backbone)
    rows = choice_rows(6, 10, "blue")
    asked: list[int] = []

    def decide(features: Tensor, places: Sequence[int]) -> list[str]:
        asked.append(len(features))
        return ["pick@1"] * len(places)

    output = model(collate(rows, range(6), 0, backbone.device), decide)
    assert asked == [6]
    for place, row in enumerate(rows):
        single = [EncodedRow((ids,), ((0,) * len(ids),)) for ids in row.sequences]
        single = [replace(one, type_ids=(row.type_ids[i],)) for i, one in enumerate(single)]
        parts = model.trunk_features(collate(single, range(len(single)), 0, backbone.device))
        torch.testing.assert_close(
            output.features[place].float(), parts.float().mean(0), rtol=0, atol=5e-3
        )


def test_layers_below_the_route_layer_run_twice_only_for_a_batch_that_adapts_them(
    backbone: Backbone,
) -> None:
    ran: list[int] = []
    for number, layer in enumerate(backbone.layers):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    experts = {"low@1": expert_of(backbone, "low@1", 0, first_layer=1)}
    experts["high@1"] = expert_of(backbone, "high@1", 1)
    model = RoutedModel(backbone, spec_of(backbone, 2), ExpertPool.holding(experts))
    batch = collate(random_rows(2, 9), range(2), 0, backbone.device)
    model(batch, always("high@1"))
    assert ran == [0, 1, 2, 3]
    ran.clear()
    model(batch, lambda features, rows: ["high@1", "low@1"])
    assert ran == [0, 1, 0, 1, 2, 3]


def test_experts_that_do_not_fit_the_layers_are_refused(backbone: Backbone) -> None:
    batch = collate(random_rows(2, 9), range(2), 0, backbone.device)
    fine = expert_of(backbone, "wide@1", 0)
    wide = CollapsedExpert(
        "wide@1",
        {path: (a.repeat(2, 1), b) for path, (a, b) in fine.factors.items()},
        fine.head_weight,
        fine.head_bias,
    )
    model = RoutedModel(backbone, spec_of(backbone, 2), ExpertPool.holding({"wide@1": wide}))
    with pytest.raises(IntegrityError, match="64 by 32"):
        model(batch, always("wide@1"))


def two_pass_model(backbone: Backbone) -> RoutedModel:
    experts = {
        name: expert_of(backbone, name, seed, classes=2 + seed, first_layer=0)
        for seed, name in enumerate(NAMES)
    }
    depth = len(backbone.layers)
    spec = spec_of(backbone, 0, states=(depth,), poolings=("last",))
    return RoutedModel(backbone, spec, ExpertPool.holding(experts))


def test_with_route_layer_0_the_feature_is_of_a_bare_pass_and_the_answer_of_an_adapted_one(
    load_tiny, backbone: Backbone
) -> None:
    model = two_pass_model(backbone)
    batch = collate(random_rows(9, 11), range(9), 0, backbone.device)
    bare = load_tiny(str(backbone.model.config.model_type))
    last = call_backbone(bare, batch)
    at = batch.attention_mask.sum(1) - 1
    vectors = last[torch.arange(9), at].float()
    expected = vectors / vectors.pow(2).mean(1, keepdim=True).sqrt()
    seen: list[Tensor] = []

    def decide(features: Tensor, rows: Sequence[int]) -> list[str]:
        seen.append(features)
        return by_row(features, rows)

    output = model(batch, decide)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0].float(), expected, rtol=2e-3, atol=2e-3)
    assert torch.equal(seen[0], model.trunk_features(batch))
    for row in range(9):
        expert = model.pool.expert(NAMES[row % 3])
        with (
            torch.no_grad(),
            hooks.bound(backbone.model, lambda e=expert: e.factors, list(expert.factors)),
        ):
            adapted = call_backbone(backbone, batch)
        pooled = head_input(adapted, batch, backbone.family.pooling)[row]
        own = pooled @ expert.head_weight.T + expert.head_bias
        torch.testing.assert_close(output.logits[row, : len(own)], own, rtol=0, atol=1e-4)


def test_a_spec_of_two_passes_made_for_another_depth_is_refused(backbone: Backbone) -> None:
    spec = spec_of(backbone, 0, states=(len(backbone.layers) + 1,), poolings=("last",))
    with pytest.raises(InputError, match="the last state of the backbone, 4"):
        RoutedModel(backbone, spec, ExpertPool.holding({}))


def test_a_backbone_in_data_parallel_is_refused(backbone: Backbone) -> None:
    wrapped = replace(backbone, model=torch.nn.DataParallel(backbone.model))
    with pytest.raises(UnsupportedModelError, match="DataParallel"):
        RoutedModel(wrapped, spec_of(backbone), ExpertPool.holding({}))


@pytest.mark.parametrize("route_layer", [2, 0])
def test_eight_threads_with_mixed_tasks_answer_as_one_after_the_other(
    backbone: Backbone, route_layer: int
) -> None:
    if route_layer == 0:
        model = two_pass_model(backbone)
    else:
        experts = {n: expert_of(backbone, n, s, classes=2 + s) for s, n in enumerate(NAMES)}
        # Room for one expert at a time: threads also load and evict under each other.
        model = RoutedModel(
            backbone, spec_of(backbone), ExpertPool(experts.__getitem__, max_bytes=1)
        )
    rows = random_rows(40, 12)

    def work(number: int) -> list[Tensor]:
        def decide(features: Tensor, places: Sequence[int]) -> list[str]:
            return [NAMES[(place * (number + 1) + number) % 3] for place in places]

        return [model(batch, decide).logits for batch in model.batches(rows, 3 + number)]

    serial = [work(number) for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        parallel = list(threads.map(work, range(8), timeout=120))
    for ours, theirs in zip(serial, parallel, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)


def test_replicas_of_data_parallel_are_refused(model: RoutedModel, backbone: Backbone) -> None:
    replica = model.backbone.layers[0]._replicate_for_data_parallel()
    with pytest.raises(UnsupportedModelError, match="DataParallel"):
        replica(torch.zeros(1, 2, backbone.hidden_size))
