"""Many experts in one batch answer as each would alone, and the pool stays within its bounds."""

from __future__ import annotations

import threading

import pytest
import torch
from adapted import all_states, random_expert
from torch import Tensor

from expertbank.adapters import hooks
from expertbank.adapters.pool import CollapsedExpert, ExpertPool, Stack

IDS = torch.tensor([[2, 5, 9, 11, 3], [2, 8, 30, 17, 3], [2, 33, 4, 4, 3], [2, 19, 21, 6, 3]])


def answers(backbone, stack: Stack, ids: Tensor, index: Tensor) -> Tensor:
    updates = {}
    for path, update in stack.updates_for(index).items():
        module = backbone.model.get_submodule(path)
        hooks.install(module)
        updates[module] = update
    with hooks.applied(updates):
        last = all_states(backbone, ids)[-1]
    return stack.logits(last.mean(1), index)


def same_as_alone(backbone, experts: list[CollapsedExpert], index: list[int]) -> Tensor:
    mixed = answers(backbone, Stack.of(experts), IDS, torch.tensor(index))
    for row, choice in enumerate(index):
        expert = experts[choice]
        alone = answers(backbone, Stack.of([expert]), IDS[row : row + 1], torch.tensor([0]))[0]
        classes = len(expert.head_bias)
        torch.testing.assert_close(mixed[row, :classes], alone, rtol=1e-4, atol=1e-5)
        assert (mixed[row, classes:] == float("-inf")).all()
    return mixed


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_mixed_batch_equals_single_passes(load_tiny, family: str) -> None:
    backbone = load_tiny(family)
    experts = [random_expert(backbone, f"t{seed}", seed) for seed in range(3)]
    mixed = same_as_alone(backbone, experts, [2, 0, 1, 0])
    other = answers(backbone, Stack.of(experts), IDS, torch.tensor([0, 1, 2, 1]))
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
    before = answers(bert, stack, IDS, torch.tensor([0, 1, 0, 1]))
    expert.head_weight.zero_()
    for a, _ in expert.factors.values():
        a.zero_()
    assert torch.equal(before, answers(bert, stack, IDS, torch.tensor([0, 1, 0, 1])))


def test_the_pool_keeps_the_most_recently_used_and_no_more(bert) -> None:
    loads: list[str] = []

    def load(expert_id: str) -> CollapsedExpert:
        loads.append(expert_id)
        return random_expert(bert, expert_id.split("@")[0], len(loads))

    pool = ExpertPool(load, capacity=2)
    for name in ("a", "b", "a", "c"):
        pool.expert(f"{name}@1")
    assert loads == ["a@1", "b@1", "c@1"]
    pool.expert("a@1")
    assert loads == ["a@1", "b@1", "c@1"], "a was used after b, so b had to go"
    pool.expert("b@1")
    assert loads[3:] == ["b@1"]


def test_a_pool_over_experts_in_memory_holds_them_all(bert) -> None:
    experts = {f"t{i}@1": random_expert(bert, f"t{i}", i) for i in range(5)}
    pool = ExpertPool.holding(experts)
    for expert_id, expert in [*experts.items(), *experts.items()]:
        assert pool.expert(expert_id) is expert


def test_a_batch_may_need_more_experts_than_the_pool_keeps(bert) -> None:
    experts = {f"t{i}@1": random_expert(bert, f"t{i}", i) for i in range(4)}
    pool = ExpertPool(experts.__getitem__, capacity=1)
    index = torch.tensor([3, 1, 0, 2])
    ours = answers(bert, pool.stack(list(experts)), IDS, index)
    theirs = answers(bert, Stack.of(list(experts.values())), IDS, index)
    assert torch.equal(ours, theirs)


def test_the_stack_in_use_most_outlives_many_others(bert) -> None:
    experts = {f"t{i}@1": random_expert(bert, f"t{i}", i) for i in range(30)}
    pool = ExpertPool.holding(experts)
    first = pool.stack(["t0@1"])
    for number in range(1, 30):
        pool.stack([f"t{number}@1"])
        assert pool.stack(["t0@1"]) is first


def test_evictions_by_other_threads_do_not_disturb_a_pass(bert) -> None:
    experts = {f"t{i}@1": random_expert(bert, f"t{i}", i) for i in range(6)}
    ids = list(experts)
    index = torch.tensor([0, 1, 0, 1])
    pairs = [(ids[i], ids[(i + 1) % 6]) for i in range(6)]
    expected = {
        pair: answers(bert, Stack.of([experts[name] for name in pair]), IDS, index)
        for pair in pairs
    }
    pool = ExpertPool(experts.__getitem__, capacity=1)
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
