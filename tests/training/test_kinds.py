"""Multiple choice and regression train through the same loop, each by its own rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from jobs import TRAINED, job_for, rows_of_kind, suiting
from tiny import choice_rows, flag_rows, row_of, value_rows
from torch import Tensor

from expertbank.adapters.pool import ExpertPool
from expertbank.backbones.batches import collate
from expertbank.evaluation.outcome import pearson
from expertbank.kinds import KINDS
from expertbank.kinds.classification import CLASSIFICATION, Classes
from expertbank.kinds.multiple_choice import Choices
from expertbank.kinds.regression import REGRESSION, Value
from expertbank.models.routed import RoutedModel
from expertbank.records import EncodedRow, Target
from expertbank.training.expert import ExpertJob, TrainedExpert, train_expert


def served(
    backbone, job: ExpertJob, trained: TrainedExpert, rows: Sequence[EncodedRow]
) -> list[Tensor]:
    """Logits of the rows in their order, by the served expert."""
    collapsed = trained.file.collapse("sky@1", backbone.device, torch.float32)
    model = RoutedModel(backbone, job.spec, ExpertPool.holding({"sky@1": collapsed}))
    found: dict[int, Tensor] = {}
    for batch in model.batches(rows, 32):
        logits = model(batch, lambda features, places: ["sky@1"] * len(places)).logits
        found.update(zip(batch.rows, logits, strict=True))
    return [found[place] for place in range(len(rows))]


def targets_of(rows: Sequence[EncodedRow]) -> list[Target]:
    return [row.target for row in rows if row.target is not None]


def share_right(logits: Sequence[Tensor], rows: Sequence[EncodedRow]) -> float:
    right = [int(own.argmax()) == row.target for own, row in zip(logits, rows, strict=True)]
    return sum(right) / len(right)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_rows_of_two_to_five_choices_are_learnt(load_tiny, family: str) -> None:
    backbone = load_tiny(family)
    job = job_for(backbone, rows=480, kind="multiple_choice", epochs=4, lr=1e-2)
    unseen = choice_rows(200, 3, "blue")
    assert {len(row.sequences) for row in unseen} == {2, 3, 4, 5}
    trained = train_expert(job, backbone)
    assert trained.file.tensors["head.weight"].shape == (1, 32)
    # Guessing gets about a third right.
    assert share_right(served(backbone, job, trained, unseen), unseen) >= 0.85


def test_choices_in_another_order_get_the_same_scores_in_that_order(bert) -> None:
    job = job_for(bert, rows=64, kind="multiple_choice")
    trained = train_expert(job, bert)
    rows = choice_rows(30, 4, "blue")
    turned = [replace(row, sequences=row.sequences[::-1]) for row in rows]
    for row, one, two in zip(
        rows, served(bert, job, trained, rows), served(bert, job, trained, turned), strict=True
    ):
        count = len(row.sequences)
        torch.testing.assert_close(one[:count], two[:count].flip(0), rtol=0, atol=1e-4)


def test_the_loss_of_choices_is_cross_entropy_over_the_rows_own(bert) -> None:
    rows = choice_rows(12, 5, "blue")
    batch = collate(rows, range(12), 0, bert.device)
    outputs = torch.randn(len(batch.row_of), 1, generator=torch.Generator().manual_seed(0))
    objective = Choices()
    logits = objective.logits(outputs, batch.row_of)
    losses, right, start = [], [], 0
    for row in rows:
        own = outputs[start : start + len(row.sequences), 0].double()
        start += len(row.sequences)
        losses.append(float(torch.logsumexp(own, 0) - own[int(row.target or 0)]))
        right.append(int(own.argmax()) == row.target)
    loss = float(objective.loss(logits, batch.targets))
    assert loss == pytest.approx(float(np.mean(losses)), rel=1e-5)
    assert objective.score(logits, batch.targets) == pytest.approx(float(np.mean(right)))


def test_a_common_shift_of_a_rows_choices_changes_neither_loss_nor_start(bert) -> None:
    rows = choice_rows(60, 6, "blue")
    batch = collate(rows, range(60), 0, bert.device)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(batch.row_of), 8, generator=generator)
    shift = 50 * torch.randn(60, 8, generator=generator)[batch.row_of]
    weight, bias = Choices().start(features, batch.row_of, batch.targets)
    moved, _ = Choices().start(features + shift, batch.row_of, batch.targets)
    torch.testing.assert_close(weight, moved, rtol=1e-3, atol=1e-4)
    assert weight.shape == (1, 8)
    assert float(bias) == 0


def test_the_start_of_choices_finds_what_only_the_right_choice_has() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(2, 6, (200,), generator=generator)
    row_of_choice = torch.repeat_interleave(torch.arange(200), counts)
    targets = torch.tensor([float(row % int(count)) for row, count in enumerate(counts)])
    features = torch.randn(len(row_of_choice), 8, generator=generator)
    features += 5 * torch.randn(200, 8, generator=generator)[row_of_choice]
    first = counts.cumsum(0) - counts
    features[first + targets.long(), 3] += 4
    weight, bias = Choices().start(features, row_of_choice, targets)
    logits = Choices().logits(features @ weight.T + bias, row_of_choice)
    assert Choices().score(logits, targets) > 0.9
    assert int(weight.abs().argmax()) == 3


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_value_linear_in_the_words_is_learnt_in_its_own_units(load_tiny, family: str) -> None:
    backbone = load_tiny(family)
    job = job_for(backbone, rows=480, kind="regression", epochs=4, lr=1e-2)
    trained = train_expert(job, backbone)
    unseen = value_rows(200, 3, "blue", "red")
    answers = np.array([float(own[0]) for own in served(backbone, job, trained, unseen)])
    targets = np.array([row.target for row in unseen])
    assert (pearson(answers, targets) or 0) >= 0.85
    # The mean of 100 and the spread came back into the stored head: always answering the mean
    # would err by the variance.
    assert np.square(answers - targets).mean() < 0.3 * targets.var()
    assert abs(answers.mean() - targets.mean()) < 0.3 * targets.std()


def test_the_stored_head_answers_in_raw_values_and_training_in_standard_ones() -> None:
    rows = value_rows(50, 1, "blue", "red")
    objective = REGRESSION.objective((), targets_of(rows))
    targets = torch.tensor([row.target for row in rows])
    assert objective == Value(
        pytest.approx(float(targets.double().mean())), pytest.approx(float(targets.double().std()))
    )
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 8, generator=generator)
    weight, bias = torch.randn(1, 8, generator=generator), torch.randn(1, generator=generator)
    standard = features @ weight.T + bias
    stored_weight, stored_bias = objective.finish(weight, bias)
    raw = features @ stored_weight.T + stored_bias
    torch.testing.assert_close(raw, standard * targets.std() + targets.mean(), rtol=1e-5, atol=1e-3)
    error = float((raw[:, 0] - targets).double().square().mean() / targets.double().var())
    assert float(objective.loss(standard, targets)) == pytest.approx(error, rel=1e-4)
    assert objective.score(standard, targets) == pytest.approx(-error, rel=1e-4)


def test_values_scaled_and_shifted_give_answers_scaled_and_shifted(bert) -> None:
    job = job_for(bert, rows=64, kind="regression")

    def other(rows: Sequence[EncodedRow]) -> tuple[EncodedRow, ...]:
        return tuple(replace(row, target=(row.target or 0) * 1000 - 5e5) for row in rows)

    moved = replace(job, train=other(job.train), selection=other(job.selection))
    rows = value_rows(20, 4, "blue", "red")
    plain = torch.stack(served(bert, job, train_expert(job, bert), rows))
    large = torch.stack(served(bert, moved, train_expert(moved, bert), rows))
    torch.testing.assert_close((large + 5e5) / 1000, plain, rtol=0, atol=0.05)


def test_every_label_that_a_word_stands_for_is_learnt(bert) -> None:
    job = job_for(bert, rows=960, kind="multi_label", epochs=8, lr=1e-2)
    trained = train_expert(job, bert)
    edge = trained.file.tensors["head.threshold"]
    assert edge.shape == (3,)
    unseen = flag_rows(200, 3, "blue", "red", "green")
    right = [
        tuple((own >= edge).float().tolist()) == row.target
        for own, row in zip(served(bert, job, trained, unseen), unseen, strict=True)
    ]
    # Always giving the most frequent set is right in an eighth of the rows.
    assert sum(right) / len(right) > 0.6


def test_equal_values_give_that_value(bert) -> None:
    rows = tuple(replace(row, target=4.5) for row in rows_of_kind("regression", 24, 1))
    job = replace(job_for(bert, kind="regression"), train=rows, selection=rows[:8])
    for own in served(bert, job, train_expert(job, bert), rows[:8]):
        assert float(own[0]) == pytest.approx(4.5, abs=0.2)


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.usable() if kind.has_head])
def test_serving_scores_the_held_out_rows_as_training_did(bert, kind) -> None:
    job = job_for(bert, rows=96, kind=kind)
    trained = train_expert(job, bert)
    logits = served(bert, job, trained, job.selection)
    if kind == "multi_label":
        answered = np.stack([own.numpy() >= 0 for own in logits])
        true = np.array([row.target for row in job.selection]).astype(bool)
        given = answered.sum(1) + true.sum(1)
        each = np.where(given > 0, 2 * (answered & true).sum(1) / np.maximum(given, 1), 1)
        assert trained.selection_score == pytest.approx(each.mean())
        return
    if kind != "regression":
        assert share_right(logits, job.selection) == pytest.approx(trained.selection_score)
        return
    answers = np.array([float(own[0]) for own in logits])
    targets = np.array([row.target for row in job.selection])
    spread = np.std([row.target for row in job.train], ddof=1)
    error = np.square((answers - targets) / spread).mean()
    assert trained.selection_score == pytest.approx(-error, rel=1e-4)


@pytest.mark.parametrize("kind", TRAINED)
def test_the_same_job_gives_the_same_bytes(load_tiny, kind) -> None:
    backbone = load_tiny(suiting(kind))
    job = job_for(backbone, kind=kind)
    data = train_expert(job, backbone).file.to_bytes()
    assert train_expert(job, backbone).file.to_bytes() == data
    seeded = train_expert(job_for(backbone, kind=kind, seed=1), backbone)
    assert seeded.file.to_bytes() != data


def test_balance_weighs_every_class_alike_whatever_its_rows() -> None:
    rows = [row_of([5], target) for target in (0.0,) * 9 + (1.0,) * 3]
    objective = KINDS.get("classification").objective(
        ("a", "b", "never"), [row.target for row in rows], balance=True
    )
    assert isinstance(objective, Classes)
    assert objective.weights == pytest.approx((12 / 18, 2.0, 0.0))
    targets = torch.tensor([row.target for row in rows])
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    each = torch.nn.functional.cross_entropy(logits, targets.long(), reduction="none")
    expected = (each[:9].mean() + each[9:].mean()) / 2
    assert float(objective.loss(logits, targets)) == pytest.approx(float(expected), rel=1e-5)
    # Always answering the frequent class is worth no more than chance.
    always = torch.tensor([[1.0, 0.0, 0.0]]).repeat(12, 1)
    assert objective.score(always, targets) == pytest.approx(0.5)
    plain = CLASSIFICATION.objective(("a", "b", "never"), targets_of(rows))
    assert plain.score(always, targets) == pytest.approx(0.75)


def test_balance_finds_more_of_a_rare_class(bert) -> None:
    rows = rows_of_kind("classification", 600, 1)
    common = [row for row in rows if row.target == 0]
    rare = [row for row in rows if row.target == 1]
    train = tuple(common[:120] + rare[:8])
    job = replace(job_for(bert, epochs=2, lr=1e-3), train=train, selection=train)
    balanced = replace(job, config=replace(job.config, balance=True))
    unseen = [row for row in rows_of_kind("classification", 200, 3) if row.target == 1]
    found = [
        share_right(served(bert, one, train_expert(one, bert), unseen), unseen)
        for one in (job, balanced)
    ]
    assert found[1] > found[0]


def test_training_ends_when_nothing_is_gained_and_keeps_the_best(bert) -> None:
    # With the labels swapped, what is learnt makes the held-out rows worse and worse.
    swapped = tuple(
        replace(row, target=1 - (row.target or 0)) for row in rows_of_kind("classification", 48, 2)
    )
    job = replace(job_for(bert, rows=96, epochs=12, lr=2e-2, patience=2), selection=swapped)
    trained = train_expert(job, bert)
    per_epoch = sum(row.length for row in job.train)
    assert trained.tokens == per_epoch * (trained.best_epoch + 2)
    assert trained.tokens < per_epoch * 12
    patient = replace(job, config=replace(job.config, patience=12))
    assert train_expert(patient, bert).tokens == per_epoch * 12
