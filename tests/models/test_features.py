"""Pooling sees real tokens only, and what routing reads is the same however it is obtained."""

from __future__ import annotations

import pytest
import torch
from tiny import HIDDEN, random_rows, spec_of
from torch import Tensor

from expertbank.adapters.pool import ExpertPool
from expertbank.backbones.batches import collate
from expertbank.backbones.features import feature, mean_by_row, pool, scale_to_unit_rms
from expertbank.backbones.running import call_backbone
from expertbank.errors import InputError
from expertbank.models.routed import RoutedModel
from expertbank.records import EncodedRow


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LEFT = torch.tensor([[0, 0, 1, 1, 1]])
RIGHT = torch.tensor([[1, 1, 1, 0, 0]])


@pytest.mark.parametrize("mask", [LEFT, RIGHT], ids=["left padding", "right padding"])
def test_mean_pooling_ignores_padding(mask: Tensor) -> None:
    state = noise(1, 5, 4)
    expected = state[mask.bool()].mean(0, keepdim=True)
    torch.testing.assert_close(pool(state, mask, "mean"), expected)
    state[~mask.bool()] = 1e9
    torch.testing.assert_close(pool(state, mask, "mean"), expected)


@pytest.mark.parametrize(
    ("mask", "pooling", "position"),
    [(LEFT, "first", 2), (LEFT, "last", 4), (RIGHT, "first", 0), (RIGHT, "last", 2)],
)
def test_first_and_last_mean_real_tokens(mask: Tensor, pooling: str, position: int) -> None:
    state = noise(1, 5, 4)
    assert torch.equal(pool(state, mask, pooling), state[:, position])


def test_each_row_of_a_batch_has_its_own_padding() -> None:
    state, mask = noise(3, 5, 4), torch.cat([LEFT, RIGHT, torch.ones_like(LEFT)])
    assert torch.equal(
        pool(state, mask, "last"), torch.stack([state[0, 4], state[1, 2], state[2, 4]])
    )


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4, 1e7])
def test_features_are_finite_halves_of_unit_size_whatever_the_backbones_scale(
    bert, size: float
) -> None:
    spec = spec_of(bert)
    states = [noise(6, 5, HIDDEN, seed=seed) * size for seed in range(3)]
    found = feature(states, torch.ones(6, 5), spec)
    assert found.dtype == torch.float16
    assert found.shape == (6, 3 * 2 * HIDDEN)
    blocks = found.float().reshape(6, 6, HIDDEN)
    torch.testing.assert_close(blocks.pow(2).mean(-1).sqrt(), torch.ones(6, 6), rtol=2e-3, atol=0)


def test_blocks_come_state_by_state_and_pooling_by_pooling(bert) -> None:
    spec = spec_of(bert, states=(0, 2), poolings=("mean", "last"))
    states = [noise(2, 5, HIDDEN, seed=seed) for seed in range(2)]
    mask = torch.cat([RIGHT, LEFT])
    expected = [
        scale_to_unit_rms(pool(state, mask, pooling))
        for state in states
        for pooling in ("mean", "last")
    ]
    assert torch.equal(feature(states, mask, spec), torch.cat(expected, -1).half())


def test_a_row_of_several_sequences_has_their_mean() -> None:
    values = noise(5, 3).half()
    found = mean_by_row(values, torch.tensor([0, 0, 0, 1, 1]))
    assert found.dtype == torch.float16
    expected = torch.stack([values[:3].float().mean(0), values[3:].float().mean(0)]).half()
    assert torch.equal(found, expected)
    assert torch.equal(mean_by_row(values, torch.arange(5)), values)


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra", "llama", "qwen3"])
def test_live_features_are_the_pooled_hidden_states_of_the_model(load_tiny, family: str) -> None:
    backbone = load_tiny(family)
    spec = spec_of(backbone, 2, poolings=("mean", "first", "last"))
    batch = collate(random_rows(6, 1), range(6), 0, backbone.device)
    with torch.no_grad():
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        states = backbone.model(**inputs, output_hidden_states=True).hidden_states
    expected = feature(states[:3], batch.attention_mask, spec)
    found = RoutedModel(backbone, spec, ExpertPool.holding({})).trunk_features(batch)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_padding_moves_features_by_no_more_than_rounding(load_tiny, family: str) -> None:
    backbone = load_tiny(family)
    model = RoutedModel(backbone, spec_of(backbone), ExpertPool.holding({}))
    rows = random_rows(8, 2)
    together = model.trunk_features(collate(rows, range(8), 0, backbone.device))
    for index in range(8):
        alone = model.trunk_features(collate(rows, [index], 0, backbone.device))[0]
        torch.testing.assert_close(together[index].float(), alone.float(), rtol=0, atol=4e-3)


def test_watching_the_trunk_changes_no_bit_of_the_model(load_tiny) -> None:
    watched, bare = load_tiny("bert"), load_tiny("bert")
    model = RoutedModel(watched, spec_of(watched), ExpertPool.holding({}))
    batch = collate(random_rows(4, 3), range(4), 0, watched.device)
    model.trunk_features(batch)
    assert torch.equal(call_backbone(watched, batch), call_backbone(bare, batch))


def test_choices_of_one_row_are_sequences_of_a_batch() -> None:
    row = EncodedRow(((2, 5, 3), (2, 6, 7, 3)), ((0, 0, 1), (0, 0, 1, 1)), 1)
    other = EncodedRow(((2, 9, 3),), ((0, 0, 0),))
    batch = collate([other, row], [1, 0], 8, torch.device("cpu"))
    assert batch.row_of.tolist() == [0, 0, 1]
    assert batch.input_ids.tolist() == [[2, 5, 3, 8], [2, 6, 7, 3], [2, 9, 3, 8]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch.token_type_ids.tolist() == [[0, 0, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert batch.targets[0] == 1
    assert batch.targets[1].isnan()
    assert batch.tokens == 10


@pytest.mark.parametrize(
    "fields",
    [{"states": (3,)}, {"states": ()}, {"poolings": ("max",)}, {"poolings": ()}, {"states": (-1,)}],
)
def test_a_spec_that_cannot_be_read_from_the_trunk_is_refused(bert, fields: dict) -> None:
    with pytest.raises(InputError):
        spec_of(bert, 2, **fields)
