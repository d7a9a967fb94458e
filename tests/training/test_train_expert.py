"""Training fits one expert, from its job alone, and leaves the backbone as it found it."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch
from jobs import job_for
from tiny import keyword_rows, row_of, spec_of

from expertbank.adapters import hooks
from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.targets import find_targets
from expertbank.adapters.tt import TTAdapter, group_targets
from expertbank.backbones.batches import collate
from expertbank.backbones.running import call_backbone
from expertbank.config import AdapterConfig
from expertbank.errors import InputError, TrainingError
from expertbank.models.expert_file import ExpertFile
from expertbank.models.heads import head_input
from expertbank.models.routed import RoutedModel
from expertbank.records import ProgressEvent
from expertbank.training import expert
from expertbank.training.expert import TrainedExpert, train_expert
from expertbank.training.held_out import HeldOut


def weights_of(backbone) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}


def assert_as_before(backbone, weights: dict[str, torch.Tensor]) -> None:
    after = backbone.model.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], weights[name]) for name in weights)
    for module in backbone.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module.training
    assert all(p.grad is None and not p.requires_grad for p in backbone.model.parameters())


def accuracy(backbone, job, trained: TrainedExpert, rows) -> float:
    collapsed = trained.file.collapse("sky@1", backbone.device, torch.float32)
    model = RoutedModel(backbone, job.spec, ExpertPool.holding({"sky@1": collapsed}))
    right = 0
    for batch in model.batches(rows, 32):
        logits = model(batch, lambda features, places: ["sky@1"] * len(places)).logits
        right += int((logits.argmax(1) == batch.targets).sum())
    return right / len(rows)


@pytest.mark.parametrize("family", ["bert", "distilbert", "llama"])
def test_before_the_first_step_the_model_is_the_backbone(load_tiny, family: str) -> None:
    backbone = load_tiny(family)
    targets = find_targets(backbone.model, backbone.family, 2, ("query", "value"))
    adapter = TTAdapter.fresh(group_targets(targets, 5), 16.0, torch.Generator().manual_seed(0))
    batch = collate(job_for(backbone).train, range(8), 0, backbone.device)
    bare = call_backbone(backbone, batch)
    with torch.no_grad():
        factors = adapter.collapse()
    with hooks.bound(backbone.model, lambda: factors, list(factors)):
        assert torch.equal(call_backbone(backbone, batch), bare)


@pytest.mark.parametrize("family", ["bert", "distilbert", "llama"])
def test_a_learnable_task_is_learnt(load_tiny, family: str) -> None:
    backbone = load_tiny(family)
    job = job_for(backbone, rows=320, epochs=5, lr=1e-2)
    trained = train_expert(job, backbone)
    assert accuracy(backbone, job, trained, keyword_rows(300, 3, "blue", "red")) >= 0.85


def test_the_adapter_learns_what_a_head_alone_cannot(bert) -> None:
    unseen = keyword_rows(300, 3, "blue", "red")
    job = job_for(bert, rows=480, epochs=8, lr=2e-2)
    still = job_for(bert, rows=480, epochs=8, lr=1e-12)
    wrong = 1 - accuracy(bert, job, train_expert(job, bert), unseen)
    wrong_by_head_alone = 1 - accuracy(bert, still, train_expert(still, bert), unseen)
    assert wrong <= wrong_by_head_alone / 2


def test_the_same_job_gives_the_same_bytes_and_another_seed_others(bert) -> None:
    job = job_for(bert)
    first = train_expert(job, bert).file.to_bytes()
    torch.manual_seed(1234)  # the state of the global generator must not matter
    assert train_expert(job, bert).file.to_bytes() == first
    assert train_expert(pickle.loads(pickle.dumps(job)), bert).file.to_bytes() == first
    assert train_expert(job_for(bert, seed=1), bert).file.to_bytes() != first


def test_global_random_state_stays_as_it_was(bert) -> None:
    before = torch.random.get_rng_state()
    train_expert(job_for(bert), bert)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_training_leaves_the_backbone_bit_identical_and_without_hooks(bert) -> None:
    before = weights_of(bert)
    train_expert(job_for(bert), bert)
    assert_as_before(bert, before)


def test_the_result_is_a_sound_expert_file_that_says_what_it_is(bert) -> None:
    job = job_for(bert)
    trained = train_expert(job, bert)
    again = ExpertFile.from_bytes(trained.file.to_bytes(), "test")
    assert (again.task, again.kind, again.labels) == ("sky", "classification", ("red", "blue"))
    assert (again.backbone_digest, again.feature_spec_digest) == (bert.digest, job.spec.digest)
    assert all(path.startswith(("encoder.layer.2", "encoder.layer.3")) for path in paths_of(again))
    cores = [tensor for name, tensor in again.tensors.items() if name.startswith("cores.")]
    assert trained.adapter_params == sum(core.numel() for core in cores)
    assert trained.head_params == 2 * 32 + 2
    assert 1 <= trained.best_epoch <= job.config.epochs
    assert trained.tokens == job.config.epochs * sum(row.length for row in job.train)


@pytest.mark.parametrize("first_layer", [0, 1, 3])
def test_an_expert_may_begin_elsewhere_than_its_bank_routes(bert, first_layer: int) -> None:
    plain = job_for(bert)
    job = replace(plain, adapter=replace(plain.adapter, first_layer=first_layer))
    trained = train_expert(job, bert)
    layers = {int(path.split(".")[2]) for path in paths_of(trained.file)}
    assert layers == set(range(first_layer, 4))
    assert trained.cached_rows == (len(job.train) + len(job.selection) if first_layer else 0)
    if first_layer:  # where the bank routes has no part in it
        there = train_expert(replace(plain, spec=spec_of(bert, first_layer)), bert).file.tensors
        assert all(torch.equal(there[name], own) for name, own in trained.file.tensors.items())


def test_an_expert_that_begins_above_the_last_layer_is_refused(bert) -> None:
    job = job_for(bert)
    job = replace(job, adapter=replace(job.adapter, first_layer=4))
    with pytest.raises(InputError, match=r"layer 4.*0 to 3"):
        train_expert(job, bert)


def paths_of(file: ExpertFile) -> list[str]:
    return [path for group in file.adapter().groups for path in group.paths]


def test_serving_gives_the_logits_that_training_measured(bert) -> None:
    job = job_for(bert, rows=96)
    trained = train_expert(job, bert)
    batch = collate(job.selection, range(24), 0, bert.device)
    adapter = trained.file.adapter()
    with torch.no_grad():
        factors = adapter.collapse()
        with hooks.bound(bert.model, lambda: factors, list(factors)):
            last = call_backbone(bert, batch)
        pooled = head_input(last, batch, bert.family.pooling)
        tensors = trained.file.tensors
        student = pooled @ tensors["head.weight"].T + tensors["head.bias"]
    right = (student.argmax(1) == batch.targets).float().mean()
    assert right.item() == pytest.approx(trained.selection_score)
    collapsed = trained.file.collapse("sky@1", bert.device, torch.float32)
    model = RoutedModel(bert, job.spec, ExpertPool.holding({"sky@1": collapsed}))
    served = model(batch, lambda features, rows: ["sky@1"] * len(rows)).logits
    assert torch.equal(served, student)


def test_the_kept_checkpoint_is_the_best_of_all_epochs(
    bert, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[HeldOut, object]] = []
    measure = expert._measure

    def listening(*arguments) -> tuple[HeldOut, object]:
        measured.append(measure(*arguments))
        return measured[-1]

    monkeypatch.setattr(expert, "_measure", listening)
    job = job_for(bert, rows=96, epochs=5, lr=2e-2, patience=5)
    # With the labels swapped, what is learnt makes these rows worse and worse.
    job = replace(job, selection=keyword_rows(48, 2, "red", "blue"))
    kept = train_expert(job, bert)
    scores = [(now.score, -now.loss) for now, _ in measured]
    assert len(scores) == 5
    assert kept.best_epoch == scores.index(max(scores)) + 1
    assert kept.best_epoch < 5, "the last is not the best here, or this test shows nothing"
    assert accuracy(bert, job, kept, job.selection) == pytest.approx(kept.selection_score)


def test_progress_is_told_in_order_and_ends_at_the_total(bert) -> None:
    events: list[ProgressEvent] = []
    train_expert(job_for(bert), bert, events.append)
    stages = list(dict.fromkeys(event.stage for event in events))
    assert all("sky" in stage for stage in stages)
    for stage in stages:
        told = [event for event in events if event.stage == stage]
        done = [event.done for event in told]
        assert done == sorted(done)
        assert {event.total for event in told} == {done[-1]}
    assert (events[-1].done, events[-1].total) == (96, 96)
    assert "loss" in events[-1].detail


def poisoned(backbone, word: int) -> None:
    with torch.no_grad():
        backbone.model.get_input_embeddings().weight[word] = float("inf")


def test_a_backbone_that_gives_no_numbers_stops_training_and_nothing_is_left_behind(bert) -> None:
    poisoned(bert, 20)
    before = weights_of(bert)
    job = job_for(bert)
    rows = (*job.train, row_of([20, 5, 6], 1.0))
    with pytest.raises(TrainingError, match="not finite"):
        train_expert(replace(job, train=rows), bert)
    assert_as_before(bert, before)


def test_a_loss_that_is_no_number_stops_training_and_nothing_is_left_behind(
    bert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expert, "PROBE_ROWS", 48)  # so that the bad row is first met in training
    poisoned(bert, 20)
    before = weights_of(bert)
    job = job_for(bert)
    clean = tuple(row for row in job_for(bert, rows=96).train if 20 not in row.sequences[0])[:48]
    with pytest.raises(TrainingError, match=r"loss became nan at step \d+ of .*--lr"):
        train_expert(replace(job, train=(*clean, row_of([20, 5, 6], 1.0))), bert)
    assert_as_before(bert, before)


def test_a_held_out_loss_that_is_no_number_stops_training_too(bert) -> None:
    poisoned(bert, 20)
    before = weights_of(bert)
    job = job_for(bert)
    clean = tuple(row for row in job.train if 20 not in row.sequences[0])
    rows = tuple(row for row in job.selection if 20 not in row.sequences[0])
    with pytest.raises(TrainingError, match="held-out loss became nan"):
        train_expert(replace(job, train=clean, selection=(*rows, row_of([20, 5], 1.0))), bert)
    assert_as_before(bert, before)


@pytest.mark.parametrize("epochs", [1, 6])
def test_an_enormous_rate_fails_or_gives_finite_weights_but_never_stores_nan(
    bert, epochs: int
) -> None:
    adapter = AdapterConfig(tt_rank=3, alpha=999_999.0)
    job = job_for(bert, adapter=adapter, lr=9.9, head_lr=9.9, epochs=epochs)
    try:
        trained = train_expert(job, bert)
    except TrainingError:
        return
    ExpertFile.from_bytes(trained.file.to_bytes(), "test")


def test_only_the_wished_projections_are_adapted(bert) -> None:
    job = job_for(bert, adapter=AdapterConfig(tt_rank=2, projections=("value",)))
    paths = paths_of(train_expert(job, bert).file)
    assert paths == [f"encoder.layer.{layer}.attention.self.value" for layer in (2, 3)]
