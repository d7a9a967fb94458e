"""Training asks for kernels that give the same bits, and says where there are none."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
from jobs import job_for

from expertbank.backbones.backbone import Backbone
from expertbank.training import reproducible
from expertbank.training.expert import train_expert
from expertbank.training.student import Student

CPU = torch.device("cpu")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU counts among the devices that must be asked."""
    monkeypatch.setattr(reproducible, "HASTY", {"cpu"})


def setting() -> tuple[bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )


def test_kernels_are_asked_for_the_same_bits_during_training_alone(
    bert: Backbone, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, answers = set(), Student.answers

    def watched(*args: object) -> object:
        seen.add(setting())
        return answers(*args)

    monkeypatch.setattr(Student, "answers", watched)
    before = setting()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        train_expert(job_for(bert, rows=16), bert)
    assert seen == {(True, False, False)}
    assert setting() == before


def test_where_torch_has_no_such_kernel_it_is_trained_as_it_can_be_and_said(
    bert: Backbone, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train_expert(job_for(bert, rows=16), bert)
    answers = Student.answers

    def without(*args: object) -> object:
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))  # has none
        return answers(*args)

    monkeypatch.setattr(Student, "answers", without)
    before = setting()
    with pytest.warns(RuntimeWarning, match="may give other bits: put_ does not have a determin"):
        found = train_expert(job_for(bert, rows=16), bert)
    assert setting() == before
    for name, tensor in expected.file.tensors.items():
        assert torch.equal(found.file.tensors[name], tensor)


def test_other_errors_are_told_once_as_they_are(hasty: None) -> None:
    calls = []

    def fails() -> None:
        calls.append(1)
        raise RuntimeError("out of memory")

    before = setting()
    with pytest.raises(RuntimeError, match="out of memory"):
        reproducible.reproducibly(CPU, fails)
    assert len(calls) == 1
    assert setting() == before


def test_a_device_whose_kernels_give_the_same_bits_is_not_asked() -> None:
    assert reproducible.reproducibly(CPU, setting) == setting()


def test_it_is_asked_until_the_last_of_several_threads_is_done(hasty: None) -> None:
    before, inside, left = setting(), Event(), Event()

    def long() -> tuple[bool, bool, bool]:
        inside.set()
        assert left.wait(30)
        return setting()

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(reproducible.reproducibly, CPU, long)
        assert inside.wait(30)
        reproducible.reproducibly(CPU, setting)
        left.set()
        assert other.result(30) == (True, False, False)
    assert setting() == before
