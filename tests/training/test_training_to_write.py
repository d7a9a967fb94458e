"""Experts whose answers the language model writes: what their loss is of, and that they learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from jobs import job_for
from tiny import written_rows
from transformers import AutoModelForCausalLM

from expertbank.adapters import hooks
from expertbank.adapters.pool import ExpertPool
from expertbank.config import AdapterConfig
from expertbank.models.routed import RoutedModel
from expertbank.training.expert import TrainedExpert, train_expert
from expertbank.training.student import Student, read_through
from expertbank.training.trunk import TrunkCache, rows_within
from expertbank.workflows.measure import answers


@pytest.fixture
def llama(load_tiny):
    return load_tiny("llama, tied")


def factors_of(trained: TrainedExpert):
    with torch.no_grad():
        return trained.file.adapter().collapse()


def test_the_loss_is_that_of_the_answers_tokens_alone(llama) -> None:
    job = job_for(llama, kind="generation", rows=32)
    job = replace(job, selection=job.selection[:1])
    trained = train_expert(job, llama)
    (row,) = job.selection
    causal = AutoModelForCausalLM.from_pretrained(llama.place.path).eval()
    ids = torch.tensor([[*row.sequences[0], *row.continuation]])
    labels = ids.clone()
    labels[:, : row.length] = -100  # what transformers leaves out of a loss
    factors = factors_of(trained)
    with torch.no_grad(), hooks.bound(causal.base_model, lambda: factors, list(factors)):
        expected = float(causal(input_ids=ids, labels=labels).loss)
    assert trained.selection_score == pytest.approx(-expected, rel=1e-4)


@pytest.mark.parametrize("parts", [2, 5, 16])
def test_accumulated_gradients_are_those_of_all_tokens_whatever_the_answers_lengths(
    llama, parts: int
) -> None:
    llama.model.double()
    job = job_for(llama, kind="generation", rows=16)
    rows = [
        read_through(replace(row, continuation=row.continuation * (1 + n % 4)), ())
        for n, row in enumerate(job.train)
    ]

    def gradients(parts: int) -> list[torch.Tensor]:
        student = Student(job, llama, torch.Generator().manual_seed(0))
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(0.1)
        cache = TrunkCache(student.view, rows, rows_within(rows, 0, student.view), lambda *_: None)
        student.gradients(rows, range(16), parts, cache)
        return [p.grad for p in student.parameters() if p.grad is not None]

    assert len({len(row.continuation) for row in rows}) > 2
    for whole, added in zip(gradients(1), gradients(parts), strict=True):
        torch.testing.assert_close(added, whole, rtol=1e-5, atol=1e-7)


def test_trunk_states_are_computed_once_for_prompts_and_answers(llama) -> None:
    job = job_for(llama, kind="generation")
    none = replace(job, config=replace(job.config, cache_bytes=0))
    cached, plain = train_expert(job, llama), train_expert(none, llama)
    assert cached.cached_rows == len(job.train) + len(job.selection)
    read = sum(row.length + len(row.continuation) for row in (*job.train, *job.selection))
    assert cached.cached_bytes == (read + 2) * 4 * llama.hidden_size
    assert plain.cached_rows == 0
    assert cached.selection_score == pytest.approx(plain.selection_score, rel=1e-4)


def test_what_is_trained_is_written_and_its_file_holds_no_head(llama) -> None:
    modules = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    adapter = AdapterConfig(kind="lora", rank=4, modules=modules)
    settings = {"rows": 96, "epochs": 5, "lr": 2e-2, "batch_size": 8}
    job = job_for(llama, kind="generation", adapter=adapter, **settings)
    trained = train_expert(job, llama)
    assert trained.head_params == 0
    assert not [name for name in trained.file.tensors if name.startswith("head.")]
    again = type(trained.file).from_bytes(trained.file.to_bytes(), "here")
    assert again.writing == job.writing
    served = again.collapse("sky@1", llama.device, torch.float32)
    model = RoutedModel(llama, job.spec, ExpertPool.holding({"sky@1": served}))
    unseen = written_rows(100, 3, "blue", "red")
    found = answers(model, unseen, "sky@1")
    assert found.texts is not None
    right = [said == row.target for said, row in zip(found.texts, unseen, strict=True)]
    assert sum(right) >= 65, "one of two answers by chance"
