"""Settings that a task's kind leaves without effect are refused before data is read."""

from __future__ import annotations

import pytest

from expertbank.config import AdapterConfig, TrainConfig
from expertbank.data import TaskSpec
from expertbank.errors import InputError
from expertbank.workflows.growing.prepare import require_settings

AS_EVER = AdapterConfig(), TrainConfig()


@pytest.mark.parametrize("kind", ["regression", "multiple_choice"])
def test_nothing_is_balanced_where_there_are_no_classes(kind: str) -> None:
    task = TaskSpec("mine", kind=kind)
    with pytest.raises(InputError, match=f"is of kind {kind}, which has no.*leave out --balance$"):
        require_settings(task, AdapterConfig(), TrainConfig(balance=True), None)
    require_settings(task, *AS_EVER, None)


@pytest.mark.parametrize(
    ("adapter", "train", "flags"),
    [
        (AdapterConfig(), TrainConfig(head_lr=2e-3), "--head-lr"),
        (AdapterConfig(pooling="mean"), TrainConfig(balance=True), "--pooling, --balance"),
    ],
)
def test_where_answers_are_written_there_is_no_head_to_set(
    adapter: AdapterConfig, train: TrainConfig, flags: str
) -> None:
    task = TaskSpec("mine", kind="generation")
    with pytest.raises(InputError, match=f"whose experts have no head; leave out {flags}$"):
        require_settings(task, adapter, train, None)
    require_settings(task, *AS_EVER, None)


@pytest.mark.parametrize("kind", ["classification", "multi_label"])
def test_where_there_are_classes_they_may_be_balanced(kind: str) -> None:
    require_settings(TaskSpec("mine", kind=kind), AdapterConfig(), TrainConfig(balance=True), None)
