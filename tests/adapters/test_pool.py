"""Many experts in one batch answer as each would alone, and the pool stays within its bounds."""

from __future__ import annotations

import threading

import pytest
import torch
from adapted import all_states, random_expert
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from expertbank.adapters import hooks
from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.stack import CollapsedExpert, Resident, Stack

IDS = torch.tensor([[2, 5, 9, 11, 3], [2, 8, 30, 17, 3], [2, 33, 4, 4, 3], [2, 19, 21, 6, 3]])


def answers(backbone, stack: Stack, ids: Tensor, index: list[int]) -> Tensor:
    updates = {}
    for path, update in stack.updates_for(index).items():
        module = backbone.model.get_submodule(path)
        hooks.install(module)
        updates[module] = update
    with hooks.applied(updates):
        last = all_states(backbone, ids)[-1]
    return stack.logits(last.mean(1), index)


def same_as_alone(backbone, experts: list[CollapsedExpert], index: list[int]) -> Tensor:
    mixed = answers(backbone, Stack.of(experts), IDS, index)
    for row, choice in enumerate(index):
        expert = experts[choice]
        alone = answers(backbone, Stack.of([expert]), IDS[row : row + 1], [0])[0]
        classes = len(expert.head_bias)
        torch.testing.assert_close(mixed[row, :classes], alone, rtol=1e-4, atol=1e-5)
        assert (mixed[row, classes:] == float("-inf")).all()
    return mixed


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_mixed_batch_equals_single_passes(load_tiny, family: str) -> None:
    backbone = load_tiny(family)
    experts = [random_expert(backbone, f"t{seed}", seed) for seed in range(3)]
    mixed = same_as_alone(backbone, experts, [2, 0, 1, 0])
    other = answers(backbone, Stack.of(experts), IDS, [0, 1, 2, 1])
    assert (mixed - other).abs().max() > 1e-2, "the choice is meant to matter"


def test_experts_of_different_ranks_class_counts_and_projections_share_a_batch(bert) -> None:
    experts = [
        random_expert(bert, "small", 1, rank=1, classes=2),
        random_expert(bert, "large", 2, rank=5, classes=5),
        random_expert(bert, "high", 3, route_layer=3, classes=3),
        random_expert(bert, "value", 4, roles=("value",), classes=2),
    ]
    mixed = same_as_alone(bert, experts, [3, 1, 0, 2])
    assert mixed.shape == (4, 5)


def test_a_stack_is_a_copy_that_experts_cannot_change_later(bert) -> None:
    expert = random_expert(bert, "a", 1)
    stack = Stack.of([expert, random_expert(bert, "b", 2)])
    before = answers(bert, stack, IDS, [0, 1, 0, 1])
    expert.head_weight.zero_()
    for a, _ in expert.factors.values():
        a.zero_()
    assert torch.equal(before, answers(bert, stack, IDS, [0, 1, 0, 1]))


def bytes_of(backbone) -> int:
    return Resident.of(random_expert(backbone, "any", 0)).nbytes


def test_the_pool_keeps_the_most_recently_used_and_no_more(bert) -> None:
    loads: list[str] = []

    def load(expert_id: str) -> CollapsedExpert:
        loads.append(expert_id)
        return random_expert(bert, expert_id.split("@")[0], len(loads))

    pool = ExpertPool(load, 2 * bytes_of(bert))
    for name in ("a", "b", "a", "c"):
        pool.expert(f"{name}@1")
    assert loads == ["a@1", "b@1", "c@1"]
    pool.expert("a@1")
    assert loads == ["a@1", "b@1", "c@1"], "a was used after b, so b had to go"
    pool.expert("b@1")
    assert loads[3:] == ["b@1"]


def test_many_combinations_of_experts_take_no_more_memory_than_the_bound(bert) -> None:
    one = bytes_of(bert)
    experts = {
        f"t{i}@1": random_expert(bert, f"t{i}", i, rank=3 if i % 4 else 1) for i in range(12)
    }
    pool = ExpertPool(experts.__getitem__, 5 * one)
    ids = list(experts)
    for turn in range(200):
        stack = pool.stack(sorted({ids[turn % 12], ids[turn * 5 % 12], ids[turn * 7 % 12]}))
        assert len({resident.layout for resident in stack.residents}) == 1
        assert pool.nbytes <= 5 * one


def test_an_expert_larger_than_the_bound_serves_and_stays_while_it_is_the_last_used(bert) -> None:
    loads: list[str] = []

    def load(expert_id: str) -> CollapsedExpert:
        loads.append(expert_id)
        return random_expert(bert, expert_id, 1)

    pool = ExpertPool(load, 1)
    first = pool.expert("a@1")
    assert pool.expert("a@1") is first
    pool.expert("b@1")
    pool.expert("a@1")
    assert loads == ["a@1", "b@1", "a@1"]
    assert pool.nbytes == bytes_of(bert)


def test_a_pool_over_experts_in_memory_holds_them_all(bert) -> None:
    experts = {f"t{i}@1": random_expert(bert, f"t{i}", i) for i in range(5)}
    pool = ExpertPool.holding(experts)
    first = {expert_id: pool.expert(expert_id) for expert_id in experts}
    for expert_id, expert in experts.items():
        assert pool.expert(expert_id) is first[expert_id]
        assert torch.equal(pool.expert(expert_id).head_weight, expert.head_weight)
        for path, (a, b) in expert.factors.items():
            assert torch.equal(pool.expert(expert_id).factors[path][0], a)
            assert torch.equal(pool.expert(expert_id).factors[path][1], b)


def test_a_batch_may_need_more_experts_than_the_pool_keeps(bert) -> None:
    experts = {f"t{i}@1": random_expert(bert, f"t{i}", i) for i in range(4)}
    pool = ExpertPool(experts.__getitem__, bytes_of(bert))
    index = [3, 1, 0, 2]
    ours = answers(bert, pool.stack(list(experts)), IDS, index)
    theirs = answers(bert, Stack.of(list(experts.values())), IDS, index)
    assert torch.equal(ours, theirs)


def test_what_the_pool_served_before_does_not_change_a_bit_of_an_answer(bert) -> None:
    experts = {
        "small@1": random_expert(bert, "small", 1, rank=1),
        "plain@1": random_expert(bert, "plain", 2, rank=1),
        "large@1": random_expert(bert, "large", 3, rank=5),
    }
    index = [0, 1, 1, 0]
    fresh = answers(bert, ExpertPool.holding(experts).stack(["small@1", "plain@1"]), IDS, index)
    used = ExpertPool.holding(experts)
    used.stack(["large@1", "plain@1", "small@1"])
    assert torch.equal(answers(bert, used.stack(["small@1", "plain@1"]), IDS, index), fresh)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    ranks=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    classes=st.lists(st.integers(1, 7), min_size=5, max_size=5),
    index=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    seed=st.integers(0, 99),
)
def test_updates_and_logits_equal_each_experts_own_in_double_precision(
    ranks: list[int], classes: list[int], index: list[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    experts = []
    for place, rank in enumerate(ranks):
        factors = {"q": (draw(6, rank), draw(rank, 4)), f"own{place}": (draw(3, 2), draw(2, 5))}
        head = (draw(classes[place], 8), draw(classes[place]))
        experts.append(CollapsedExpert(f"e{place}", factors, *head))
    index = [place % len(experts) for place in index]
    x, y, pooled = draw(len(index), 7, 6), draw(len(index), 7, 3), draw(len(index), 8)
    stack = Stack.of(experts)
    updates = stack.updates_for(index)
    logits = stack.logits(pooled, index)
    for row, place in enumerate(index):
        a, b = experts[place].factors["q"]
        torch.testing.assert_close(updates["q"](x)[row], x[row] @ a @ b)
        for other in range(len(experts)):
            got = updates[f"own{other}"](y)[row]
            a, b = experts[other].factors[f"own{other}"]
            expected = y[row] @ a @ b if other == place else torch.zeros_like(got)
            torch.testing.assert_close(got, expected)
        own = experts[place].head_weight @ pooled[row] + experts[place].head_bias
        torch.testing.assert_close(logits[row, : len(own)], own)
        assert (logits[row, len(own) :] == float("-inf")).all()
    assert logits.shape[1] == max(classes[: len(experts)])


def test_evictions_by_other_threads_do_not_disturb_a_pass(bert) -> None:
    experts = {f"t{i}@1": random_expert(bert, f"t{i}", i) for i in range(6)}
    ids = list(experts)
    index = [0, 1, 0, 1]
    pairs = [(ids[i], ids[(i + 1) % 6]) for i in range(6)]
    expected = {
        pair: answers(bert, Stack.of([experts[name] for name in pair]), IDS, index)
        for pair in pairs
    }
    pool = ExpertPool(experts.__getitem__, bytes_of(bert))
    wrong: list[object] = []
    done: list[int] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                pair = pairs[(turn * (number + 1)) % 6]
                if not torch.equal(answers(bert, pool.stack(pair), IDS, index), expected[pair]):
                    wrong.append(pair)
        except Exception as error:  # noqa: BLE001 - any failure is what this test looks for
            wrong.append(error)
        done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(done) == [0, 1, 2]
    assert wrong == []
