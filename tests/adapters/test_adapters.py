"""Updates by hook, and an adapter's cores: written, read, collapsed."""

from __future__ import annotations

import threading

import pytest
import torch
from adapted import all_states, random_adapter

from expertbank.adapters import hooks
from expertbank.adapters.tt import CoreGroup, TTAdapter
from expertbank.errors import IntegrityError
from expertbank.tt import dense

IDS = torch.tensor([[2, 5, 9, 11, 3], [2, 8, 30, 17, 3]])


def test_both_ways_of_adding_an_update_are_the_same(bert) -> None:
    with torch.no_grad():
        factors = random_adapter(bert, 3).collapse()
    with hooks.bound(bert.model, lambda: factors, list(factors)):
        bound = all_states(bert, IDS)[-1]
    updates = {}
    for path, (a, b) in factors.items():
        module = bert.model.get_submodule(path)
        hooks.install(module)
        updates[module] = lambda x, a=a, b=b: (x @ a) @ b
    with hooks.applied(updates):
        applied = all_states(bert, IDS)[-1]
    assert torch.equal(bound, applied)


def test_hooks_outside_their_block_change_no_bit(load_tiny) -> None:
    hooked, bare = load_tiny("bert"), load_tiny("bert")
    with torch.no_grad():
        factors = random_adapter(hooked, 3).collapse()
    for path in factors:
        for _ in range(2):
            hooks.install(hooked.model.get_submodule(path))
        assert len(hooked.model.get_submodule(path)._forward_hooks) == 1
    with hooks.bound(hooked.model, lambda: factors, list(factors)):
        all_states(hooked, IDS)
    with hooks.applied({hooked.model.get_submodule(path): torch.zeros_like for path in factors}):
        pass
    for ours, theirs in zip(all_states(hooked, IDS), all_states(bare, IDS), strict=True):
        assert torch.equal(ours, theirs)


def test_bound_hooks_go_even_when_the_block_fails(bert) -> None:
    with torch.no_grad():
        factors = random_adapter(bert, 3).collapse()
    with (
        pytest.raises(RuntimeError, match="stop"),
        hooks.bound(bert.model, lambda: factors, list(factors)),
    ):
        raise RuntimeError("stop")
    assert not any(module._forward_hooks for module in bert.model.modules())


def test_threads_on_one_model_do_not_see_each_other(bert) -> None:
    by_thread = []
    for seed in range(2):
        with torch.no_grad():
            factors = random_adapter(bert, seed).collapse()
        updates = {}
        for path, (a, b) in factors.items():
            module = bert.model.get_submodule(path)
            hooks.install(module)
            updates[module] = lambda x, a=a, b=b: (x @ a) @ b
        by_thread.append(updates)
    alone = []
    for updates in by_thread:
        with hooks.applied(updates):
            alone.append(all_states(bert, IDS)[-1])
    bare = all_states(bert, IDS)[-1]
    assert not torch.equal(alone[0], alone[1])

    barrier = threading.Barrier(3)
    wrong: list[str] = []
    passes = [0, 0, 0]

    def work(number: int) -> None:
        expected = bare if number == 2 else alone[number]
        updates = {} if number == 2 else by_thread[number]
        barrier.wait(timeout=60)
        with hooks.applied(updates):
            for _ in range(25):
                barrier.wait(timeout=60)  # every pass begins inside the others' blocks
                if not torch.equal(all_states(bert, IDS)[-1], expected):
                    wrong.append(f"thread {number}")
                passes[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert passes == [25, 25, 25]
    assert wrong == []


def test_an_adapter_survives_being_written_and_read(bert) -> None:
    adapter = random_adapter(bert, 5, alpha=2.5)
    again = TTAdapter.from_tensors(adapter.groups, adapter.alpha, adapter.to_tensors())
    assert [CoreGroup.from_dict(group.to_dict()) for group in adapter.groups] == list(again.groups)
    for path, (a, b) in adapter.collapse().items():
        a2, b2 = again.collapse()[path]
        assert torch.equal(a, a2)
        assert torch.equal(b, b2)


def test_written_tensors_are_copies(bert) -> None:
    adapter = random_adapter(bert, 5)
    tensors = adapter.to_tensors()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    with torch.no_grad():
        for core in adapter.parameters():
            core.zero_()
    assert all(torch.equal(tensors[name], before[name]) for name in tensors)


@pytest.mark.parametrize("damage", ["missing", "other shape"])
def test_cores_that_do_not_fit_their_group_are_refused(bert, damage: str) -> None:
    adapter = random_adapter(bert, 5)
    tensors = adapter.to_tensors()
    core = tensors.pop("cores.0.1")
    if damage == "other shape":
        tensors["cores.0.1"] = core[..., :1]
    with pytest.raises(IntegrityError, match=r"cores\.0\.1"):
        TTAdapter.from_tensors(adapter.groups, adapter.alpha, tensors)


def test_equal_shapes_share_a_group_and_collapse_as_they_would_alone(load_tiny) -> None:
    llama = load_tiny("llama")
    adapter = random_adapter(llama, 1, alpha=3.0)
    assert [len(group.slots) for group in adapter.groups] == [2, 2], "queries, and values"
    factors = adapter.collapse()
    tensors = adapter.to_tensors()
    for index, group in enumerate(adapter.groups):
        cores = [tensors[f"cores.{index}.{k}"] for k in range(len(group.shape.factors))]
        for place, path in enumerate(group.paths):
            own = [core[place : place + 1] for core in cores]
            a, b = factors[path]
            torch.testing.assert_close(a @ b, 3.0 * dense(own, group.shape)[0])
    assert adapter.parameter_count == sum(
        group.shape.parameters * len(group.slots) for group in adapter.groups
    )


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "falcon"])
def test_the_roles_of_a_fused_module_share_one_pair_of_their_ranks_together(
    load_tiny, family: str
) -> None:
    backbone = load_tiny(family)
    adapter = random_adapter(backbone, 1, alpha=3.0, rank=3)
    factors, tensors = adapter.collapse(), adapter.to_tensors()
    expected = {path: torch.zeros(a.shape[0], b.shape[1]) for path, (a, b) in factors.items()}
    for index, group in enumerate(adapter.groups):
        cores = [tensors[f"cores.{index}.{k}"] for k in range(len(group.shape.factors))]
        for update, slot in zip(dense(cores, group.shape), group.slots, strict=True):
            assert slot.columns is not None
            columns = slot.columns.take(torch.arange(slot.columns.width))
            expected[slot.path][:, columns] += 3.0 * update
    assert len(expected) == 2, "two layers, one module each"
    for path, (a, b) in factors.items():
        assert a.shape[1] == b.shape[0] == 6
        torch.testing.assert_close(a @ b, expected[path])


def test_gradients_reach_the_cores_of_both_roles_of_a_fused_module(load_tiny) -> None:
    adapter = random_adapter(load_tiny("falcon"), 1, route_layer=3, rank=2, dtype=torch.float64)
    cores = list(adapter.parameters())

    def products(*_: torch.Tensor) -> torch.Tensor:
        ((a, b),) = adapter.collapse().values()
        return a @ b

    assert torch.autograd.gradcheck(products, cores, fast_mode=True)
