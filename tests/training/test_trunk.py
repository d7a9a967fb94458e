"""Trunk states are computed once and change nothing but the time that training takes."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from jobs import job_for
from tiny import choice_rows, random_rows
from torch import Tensor, nn

from expertbank.adapters.pool import ExpertPool
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import Batch, collate
from expertbank.backbones.running import call_backbone
from expertbank.kinds import KINDS
from expertbank.models.routed import RoutedModel
from expertbank.training.expert import train_expert
from expertbank.training.student import Student, split
from expertbank.training.trunk import TrainingView, TrunkCache, rows_within

FAMILIES = ["bert", "distilbert", "llama", "t5"]


def silent(rows: int, tokens: int) -> None:
    """Nobody listens."""


def cached(view: TrainingView, rows, limit: int = 2**30) -> TrunkCache:
    return TrunkCache(view, rows, rows_within(rows, limit, view), silent)


def padded_left(batch: Batch) -> Batch:
    """The same rows with their padding on the other side."""
    order = batch.attention_mask.sort(dim=1, stable=True).indices
    return replace(
        batch,
        input_ids=batch.input_ids.gather(1, order),
        attention_mask=batch.attention_mask.gather(1, order),
        token_type_ids=batch.token_type_ids.gather(1, order),
    )


def real(states: Tensor, batch: Batch) -> Tensor:
    return states[batch.attention_mask.bool()]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_branch_from_cached_states_gives_what_the_whole_model_gives(
    load_tiny, family: str
) -> None:
    backbone: Backbone = load_tiny(family)
    backbone.model.double()  # so that what differs is the states, and no sum's rounding
    rows = (*random_rows(40, 1), *choice_rows(10, 2, "blue"))
    view = TrainingView(backbone, 2)
    cache = cached(view, rows)
    # Long with short, single with several sequences: padded as they were not when cached.
    for positions in ([0, 45, 3], list(range(50)), [7], [49, 1]):
        batch = collate(rows, positions, backbone.tokenizer.pad_token_id, backbone.device)
        states = cache.recall(batch)
        assert states is not None
        expected = call_backbone(backbone, batch)
        found = view.last_states(batch, states)
        torch.testing.assert_close(real(found, batch), real(expected, batch), rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_states_are_put_back_wherever_the_padding_stands(load_tiny, family: str) -> None:
    backbone = load_tiny(family)
    rows = random_rows(12, 1)
    view = TrainingView(backbone, 2)
    cache = cached(view, rows)
    right = collate(rows, range(12), backbone.tokenizer.pad_token_id, backbone.device)
    left = padded_left(right)
    ours, theirs = cache.recall(right), cache.recall(left)
    assert ours is not None
    assert theirs is not None
    assert torch.equal(real(ours, right), real(theirs, left))


@pytest.mark.parametrize("family", FAMILIES)
def test_recalled_states_leave_the_trunk_out_and_the_next_pass_runs_it_again(
    load_tiny, family: str
) -> None:
    backbone = load_tiny(family)
    rows = random_rows(8, 1)
    view = TrainingView(backbone, 2)
    cache = cached(view, rows)
    batch = collate(rows, range(8), backbone.tokenizer.pad_token_id, backbone.device)
    ran: list[str] = []
    for number, layer in enumerate(view.backbone.layers):
        for name, module in layer.named_modules():
            if isinstance(module, nn.Linear):
                label = f"{number}.{name}"
                module.register_forward_hook(lambda *_, label=label: ran.append(label))
    view.last_states(batch, cache.recall(batch))
    # T5's first layer makes the bias for positions that all others are given.
    assert {label[0] for label in ran} == {"2", "3"} | ({"0"} if family == "t5" else set())
    ran.clear()
    view.last_states(batch)
    assert {label[0] for label in ran} == {"0", "1", "2", "3"}


@pytest.mark.parametrize("rows_kept", [0, 1, 7, 29])
def test_the_cache_keeps_within_its_bytes_and_takes_the_shortest(bert, rows_kept: int) -> None:
    rows = random_rows(30, 1)
    view = TrainingView(bert, 2)
    lengths = sorted(row.length for row in rows)
    exact = (1 + sum(lengths[:rows_kept])) * 32 * 4
    cache = cached(view, rows, exact)
    assert (cache.rows, cache.bytes) == (rows_kept, exact if rows_kept else 0)
    assert cached(view, rows, exact - 1).rows == max(rows_kept - 1, 0)
    order = sorted(range(30), key=lambda place: (rows[place].length, place))
    for count, place in enumerate(order):
        batch = collate(rows, [place], 0, bert.device)
        assert (cache.recall(batch) is not None) == (count < rows_kept)


@pytest.mark.parametrize("kind", ["classification", "multiple_choice", "regression"])
def test_training_with_and_without_a_cache_learns_the_same(bert, kind) -> None:
    job = job_for(bert, kind=kind)
    some = sum(sorted(row.length for row in job.train)[:20]) * 32 * 4
    whole = train_expert(job, bert)
    assert whole.cached_rows == len(job.train) + len(job.selection)
    for limit in (0, some):
        without = train_expert(replace(job, config=replace(job.config, cache_bytes=limit)), bert)
        assert without.cached_bytes <= limit
        assert without.cached_rows < whole.cached_rows
        for name, tensor in whole.file.tensors.items():
            torch.testing.assert_close(without.file.tensors[name], tensor, rtol=1e-3, atol=1e-3)


def gradients(job, backbone: Backbone, parts: int = 1) -> dict[str, Tensor]:
    """Of one step over all rows, from a start where every core has one."""
    student = Student(job, backbone, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    cache = cached(student.view, job.train)
    student.gradients(job.train, range(len(job.train)), parts, cache)
    found = {name: p.grad for name, p in student.named_parameters() if p.grad is not None}
    assert found.keys() == dict(student.named_parameters()).keys()
    # What all choices of a row share does not matter, so a bias there may have none.
    alone = KINDS.get(job.kind).scores_sequences
    needed = [g for name, g in found.items() if not (alone and name == "head_bias")]
    assert all(float(gradient.abs().max()) > 0 for gradient in needed)
    return found


@pytest.mark.parametrize("kind", ["classification", "multiple_choice", "regression"])
@pytest.mark.parametrize("parts", [2, 5, 48])
def test_accumulated_gradients_are_those_of_one_large_batch(bert, kind, parts: int) -> None:
    bert.model.double()
    job = job_for(bert, rows=48 if parts == 48 else 47, kind=kind, balance=True)
    whole = gradients(job, bert)
    for name, gradient in gradients(job, bert, parts).items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 2, 5, 16, 40])
def test_a_step_is_cut_into_parts_that_differ_by_at_most_one_row(parts: int) -> None:
    cut = split(tuple(range(16)), parts)
    assert [position for part in cut for position in part] == list(range(16))
    sizes = {len(part) for part in cut}
    assert max(sizes) - min(sizes) <= 1
    assert len(cut) == min(parts, 16)


@pytest.mark.parametrize("family", FAMILIES)
def test_recomputed_layers_give_the_same_gradients_and_are_run_twice(
    load_tiny, family: str
) -> None:
    backbone = load_tiny(family)
    job = job_for(backbone)
    plain = gradients(job, backbone)
    again = replace(job, config=replace(job.config, checkpoint_layers=True))
    for name, gradient in gradients(again, backbone).items():
        torch.testing.assert_close(gradient, plain[name], rtol=1e-6, atol=1e-6)
    student = Student(again, backbone, torch.Generator().manual_seed(0))
    runs: list[int] = []
    for layer in student.view.backbone.layers:
        counted = next(module for module in layer.modules() if isinstance(module, nn.Linear))
        counted.register_forward_hook(lambda *_: runs.append(1))
    cache = cached(student.view, ())
    student.gradients(job.train, range(8), 1, cache)
    assert len(runs) == 2 + 2 * 2, "two layers of trunk once, two of the branch twice"


def test_the_backward_pass_ends_at_the_route_layer(bert) -> None:
    student = Student(job_for(bert), bert, torch.Generator().manual_seed(0))
    needs: list[bool] = []
    for layer in student.view.backbone.layers:
        layer.register_forward_hook(lambda *found: needs.append(found[2].requires_grad))
    student.collapse()
    student.pooled(student.batch(random_rows(4, 1), range(4)), cached(student.view, ()))
    assert needs == [False, False, True, True]


def test_another_thread_serves_the_exact_answers_while_one_trains(bert) -> None:
    job = replace(job_for(bert), config=replace(job_for(bert).config, checkpoint_layers=True))
    expert = train_expert(job, bert).file.collapse("sky@1", bert.device, torch.float32)
    model = RoutedModel(bert, job.spec, ExpertPool.holding({"sky@1": expert}))
    batch = collate(job.selection, range(24), 0, bert.device)

    def answer() -> Tensor:
        return model(batch, lambda features, rows: ["sky@1"] * len(rows)).logits

    expected, alone = answer(), train_expert(job, bert).file.to_bytes()
    done = threading.Event()
    wrong: list[int] = []
    served = 0

    def serve() -> None:
        nonlocal served
        while not done.is_set():
            if not torch.equal(answer(), expected):
                wrong.append(served)
            served += 1

    server = threading.Thread(target=serve)
    server.start()
    try:
        beside = [train_expert(job, bert).file.to_bytes() for _ in range(3)]
    finally:
        done.set()
        server.join(timeout=60)
    assert served > 3
    assert not wrong
    assert beside == [alone] * 3


def test_a_view_shares_every_weight_and_no_module(bert) -> None:
    view = bert.view()
    theirs = dict(bert.model.named_parameters()) | dict(bert.model.named_buffers())
    ours = dict(view.model.named_parameters()) | dict(view.model.named_buffers())
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
    assert not set(view.model.modules()) & set(bert.model.modules())


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_bfloat16_backbone_trains_float32_cores_that_learn(backbone_folder, family: str) -> None:
    from expertbank.backbones.backbone import load_backbone

    backbone = load_backbone(str(backbone_folder(family)), device="cpu", dtype="bfloat16")
    job = job_for(backbone, rows=160, epochs=3, lr=2e-2)
    job = replace(job, spec=replace(job.spec, dtype="bfloat16"))
    attention = backbone.model.config._attn_implementation
    trained = train_expert(job, backbone)
    assert backbone.model.config._attn_implementation == attention, "serving keeps its own"
    assert {tensor.dtype for tensor in trained.file.tensors.values()} == {torch.float32}
    assert trained.selection_score >= 0.7
    tokens = sum(len(row.sequences[0]) for row in (*job.train, *job.selection))
    assert trained.cached_bytes == (tokens + 2) * 32 * 2, "two bytes a number"
    assert train_expert(job, backbone).file.to_bytes() == trained.file.to_bytes()
