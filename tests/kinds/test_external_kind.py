"""A kind that is answered elsewhere: what it takes, and what it has nothing to say of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from expertbank.adapters import ADAPTERS
from expertbank.config import AdapterConfig, sha256_text
from expertbank.errors import DataError, InputError, IntegrityError
from expertbank.evaluation.predictions import Predictions
from expertbank.kinds import LabelRules
from expertbank.kinds.external import EXTERNAL
from expertbank.models.expert_file import ExpertFile
from expertbank.records import Row
from expertbank.testing.kinds import EveryKind

ROWS = [Row("one"), Row("two")]
FILE = ExpertFile("law", "external", ("law-v2",), "none", {}, 1.0, "s", "b", {}, "mean")


class TestExternal(EveryKind):
    @pytest.fixture
    def kind(self):
        return EXTERNAL

    @pytest.fixture
    def rows(self):
        return ROWS


def test_its_only_label_is_the_adapters_name_and_every_answer_is_it() -> None:
    assert EXTERNAL.labels(ROWS, ROWS, LabelRules(("law-v2",)), "here") == ("law-v2",)
    said = EXTERNAL.answer(torch.empty(0), ROWS[0], ("law-v2",), None)
    assert (said.label, said.scores, said.text) == (None, {}, "(adapter law-v2)")


@pytest.mark.parametrize("labels", [(), ("a", "b"), ("",), (" a",), ("a\n",), ("é",), ("a" * 257,)])
def test_a_name_that_no_request_could_carry_is_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="name"):
        EXTERNAL.labels(ROWS, ROWS, LabelRules(labels), "here")


@pytest.mark.parametrize("row", [Row("a", "b", origin="f:2"), Row("a", None, ("b",), origin="f:2")])
def test_a_row_that_is_more_than_one_text_is_refused_with_its_place(row: Row) -> None:
    with pytest.raises(DataError, match=r"f:2: .*--text-column"):
        EXTERNAL.labels(ROWS, [row], LabelRules(("law-v2",)), "here")


def test_of_its_rows_it_is_known_only_whether_they_were_sent() -> None:
    digests = tuple(sha256_text(row) for row in "abc")
    stored = Predictions(np.empty((3, 0), np.float32), np.zeros(3, np.int32), digests)
    read = Predictions.from_bytes(stored.to_bytes(), "here")
    assert EXTERNAL.metrics(read) == {"accuracy": None, "n": 3, "majority": None}
    outcome, chosen = EXTERNAL.outcome(read), np.array([True, False, True])
    assert (outcome.quality(), outcome.correct()) == (None, 0)
    assert (outcome.quality(chosen), outcome.correct(chosen)) == (2 / 3, 2)
    same, near = EXTERNAL.alike(read, read)
    assert same.all()
    assert not near.any()
    assert EXTERNAL.sureness(torch.empty(3, 0)).tolist() == [float("inf")] * 3


def test_its_file_has_no_number_and_comes_back_as_it_was() -> None:
    data = FILE.to_bytes()
    read = ExpertFile.from_bytes(data, "here")
    assert (read, read.to_bytes()) == (FILE, data)
    assert (read.head_params, read.adapter().parameter_count) == (0, 0)
    assert read.collapse("x", torch.device("cpu"), torch.float32).factors == {}


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ()},
        {"labels": ("a", "b")},
        {"adapter_kind": "tt", "adapter_facts": {"groups": []}},
        {"adapter_facts": {"paths": []}},
        {"tensors": {"head.weight": torch.zeros(0, 4), "head.bias": torch.zeros(0)}},
        {"tensors": {"a": torch.zeros(1)}},
    ],
)
def test_a_file_with_anything_more_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="here"):
        ExpertFile.from_bytes(replace(FILE, **change).to_bytes(), "here")


def test_no_adapter_is_not_to_be_asked_for() -> None:
    with pytest.raises(InputError, match="--external"):
        ADAPTERS.get("none").settled(AdapterConfig(kind="none"))
