"""Each kind of adapter against a dense reference, and kinds and ranks mixed in one pass."""

from __future__ import annotations

import hashlib
from functools import partial

import pytest
import torch
from adapted import all_states, change_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from expertbank.adapters import ADAPTERS, Adapter, Start
from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.slots import Sized, Slot
from expertbank.adapters.stack import CollapsedExpert
from expertbank.adapters.targets import Target, find_targets, weight_of
from expertbank.adapters.tt import group_targets
from expertbank.adapters.uni_lora import SHARED, UniLoraAdapter, places
from expertbank.config import AdapterConfig
from expertbank.errors import InputError
from expertbank.tt import TTShape, dense

WISHES = (
    AdapterConfig(),
    AdapterConfig(tt_rank=3),
    AdapterConfig(tt_rank=(4, 2, 3)),
    AdapterConfig(kind="lora", rank=1),
    AdapterConfig(kind="lora", rank=7),
    AdapterConfig(kind="uni-lora", rank=2),
)


def learnt_adapter(backbone, wish: AdapterConfig, seed: int) -> Adapter:
    """An adapter of the branch from layer 2, every number of it random."""
    generator = torch.Generator().manual_seed(seed)
    targets = find_targets(backbone.model, backbone.family, 2)
    start = Start(targets, wish, 2.0, generator, partial(weight_of, backbone.model))
    adapter = ADAPTERS.get(wish.kind).fresh(start)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return adapter


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2", "gpt_neox"])
def test_one_batch_of_experts_of_every_kind_and_rank_is_each_alone_in_the_weights(
    load_tiny, family: str
) -> None:
    """The reference puts ``A·B`` into the weights of a model of its own, one row at a time."""
    from expertbank.adapters import hooks

    backbone = load_tiny(family)
    ids = torch.randint(4, 30, (len(WISHES), 6), generator=torch.Generator().manual_seed(0))
    experts = {}
    for number, wish in enumerate(WISHES):
        with torch.no_grad():
            factors = learnt_adapter(backbone, wish, number).collapse()
        factors = {path: (a.detach(), b.detach()) for path, (a, b) in factors.items()}
        head = torch.zeros(2, backbone.hidden_size), torch.zeros(2)
        experts[f"e{number}"] = CollapsedExpert(f"e{number}", factors, *head, task=f"t{number}")
    stack = ExpertPool.holding(experts).stack(list(experts))
    updates = stack.updates_for([stack.ids.index(f"e{n}") for n in range(len(WISHES))])
    modules = {backbone.model.get_submodule(path): update for path, update in updates.items()}
    for module in modules:
        hooks.install(module)
    with hooks.applied(modules):
        together = all_states(backbone, ids)[-1]
    for number in range(len(WISHES)):
        alone = load_tiny(family)
        change_weights(alone, experts[f"e{number}"].factors)
        expected = all_states(alone, ids[number : number + 1])[-1]
        torch.testing.assert_close(together[number : number + 1], expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(expected, all_states(load_tiny(family), ids)[-1][number], 1e-2)


def test_lora_is_its_two_factors(bert) -> None:
    adapter = learnt_adapter(bert, AdapterConfig(kind="lora", rank=3), 1).double()
    tensors = adapter.to_tensors()
    for place, path in enumerate(adapter.paths):
        a, b = adapter.collapse()[path]
        assert torch.equal(a, tensors["cores.0.0"][place, 0])
        assert torch.equal(b, 2.0 * tensors["cores.0.1"][place, :, :, 0])


@given(
    sides=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4),
    rank=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_uni_lora_is_a_map_that_keeps_lengths_written_out_in_full(sides, rank, seed) -> None:
    """``[A; B] = P theta`` with ``PᵀP`` the identity on all entries that anything uses."""
    sized = [Sized(Slot(f"m{n}"), *side) for n, side in enumerate(sides)]
    count = rank * sum(map(sum, sides))
    entries = -(-count // SHARED)
    theta = torch.randn(entries, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    matrix = torch.zeros(count, entries, dtype=torch.float64)
    for row, entry in enumerate(_split_mix(count)):
        matrix[row, entry % entries] = 1.0
    used = matrix.sum(0)
    matrix /= used.clamp(min=1).sqrt()
    torch.testing.assert_close(matrix.T @ matrix, torch.diag((used > 0).double()))
    numbers, start = matrix @ theta, 0
    found = UniLoraAdapter(sized, rank, 3.0, theta).collapse()
    for number, (inputs, outputs) in enumerate(sides):
        a, b = found[f"m{number}"]
        end = start + rank * inputs
        torch.testing.assert_close(a, numbers[start:end].view(inputs, rank))
        start, end = end, end + rank * outputs
        torch.testing.assert_close(b, 3.0 * numbers[start:end].view(rank, outputs))
        start = end


def _split_mix(count: int) -> list[int]:
    """SplitMix64 with Python's own whole numbers."""
    mask, found = 2**64 - 1, []
    for place in range(1, count + 1):
        z = place * 0x9E3779B97F4A7C15 & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        found.append(z ^ z >> 31)
    return found


def test_the_order_of_uni_lora_is_pinned_for_ever() -> None:
    """Another order would make other updates of the files that banks hold."""
    order = places(24_576, 8_192)
    assert order[:5].tolist() == [value % 8_192 for value in _split_mix(5)]
    digest = hashlib.sha256(order.numpy().astype("<i8").tobytes()).hexdigest()
    assert digest == PINNED


PINNED = "df10e564925794f7168f034f94e6681dac778f2f463317d34c59073632c5f9b6"


@given(
    in_factors=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    out_factors=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    ranks=st.tuples(*[st.integers(1, 9)] * 3),
)
@settings(deadline=None, max_examples=80)
def test_three_ranks_are_those_of_both_sides_and_the_middle(in_factors, out_factors, ranks) -> None:
    factors = tuple(in_factors), tuple(out_factors)
    sides = torch.Size(in_factors).numel(), torch.Size(out_factors).numel()
    shape = TTShape.of(*sides, ranks, factors=factors)
    left, middle, right = ranks
    count = len(in_factors), len(out_factors)
    wanted = [left] * (count[0] - 1) + [middle] + [right] * (count[1] - 1)
    if len(wanted) == 3:
        wanted = list(ranks)
    assert all(one <= wish for one, wish in zip(shape.ranks[1:-1], wanted, strict=True))
    full = TTShape.of(*sides, [10**6] * len(wanted), factors=factors)
    clipped = [min(*pair) for pair in zip(wanted, full.ranks[1:-1], strict=True)]
    assert list(shape.ranks[1:-1]) == clipped


def test_uneven_bonds_are_the_trains_that_they_name(bert) -> None:
    adapter = learnt_adapter(bert, AdapterConfig(tt_rank=(4, 2, 3)), 2).double()
    for group, cores in zip(adapter.groups, _cores(adapter), strict=True):
        assert group.shape.ranks[1:-1] == (4, 2, 3)
        for slot, update in zip(group.slots, dense(cores, group.shape), strict=True):
            a, b = adapter.collapse()[slot.path]
            torch.testing.assert_close(a @ b, 2.0 * update)


def _cores(adapter) -> list[list[Tensor]]:
    tensors = {n.removeprefix("cores_"): p for n, p in adapter.named_parameters()}
    return [
        [tensors[f"{index}_{k}"] for k in range(len(group.shape.factors))]
        for index, group in enumerate(adapter.groups)
    ]


def test_a_rank_too_many_says_how_many_bonds_there_are() -> None:
    with pytest.raises(InputError, match="4 cores have 3 inner bonds, got 2 ranks"):
        group_targets([Target("q", 0, "query", 384, 384)], (5, 5))


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (AdapterConfig(rank=4), "--tt-rank"),
        (AdapterConfig(kind="lora", tt_rank=4), "--rank is its size"),
        (AdapterConfig(kind="uni-lora", tt_rank=(4, 2, 4)), "--rank is its size"),
    ],
)
def test_a_size_of_another_kind_is_refused(wish: AdapterConfig, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ADAPTERS.get(wish.kind).settled(wish)


@pytest.mark.parametrize("text", ["0", "9,0,9", "9,,9", "nine", "", "300", "5,1,999"])
def test_ranks_that_cannot_be_are_refused(text: str) -> None:
    from expertbank.settings import build

    with pytest.raises(InputError, match="tt_rank"):
        build(AdapterConfig, {"tt_rank": text})


@pytest.mark.parametrize("given", ["9,2,9", "9, 2, 9", [9, 2, 9], (9, 2, 9)])
def test_ranks_are_read_as_they_are_given(given: object) -> None:
    from expertbank.settings import build

    assert build(AdapterConfig, {"tt_rank": given}) == AdapterConfig(tt_rank=(9, 2, 9))
    assert build(AdapterConfig, {"tt_rank": "4"}) == AdapterConfig(tt_rank=4)


def test_without_a_rank_a_narrow_backbone_gets_the_update_of_lora_of_rank_1(load_tiny) -> None:
    backbone = load_tiny("bert")
    train, lora = (
        learnt_adapter(backbone, wish, 0).collapse()
        for wish in (AdapterConfig(), AdapterConfig(kind="lora", rank=1))
    )
    assert train.keys() == lora.keys()
    for path, pair in train.items():
        assert all(torch.equal(one, other) for one, other in zip(pair, lora[path], strict=True))
