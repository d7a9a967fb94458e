"""How sure an expert is, against the probabilities that its answer shows."""

from __future__ import annotations

import math

import pytest
import torch

from expertbank.kinds import KINDS
from expertbank.records import Row
from expertbank.routing.sureness import STEP, SUREST, in_steps

ROWS = {
    "classification": Row("a text"),
    "multiple_choice": Row("a text", choices=("a", "b", "c")),
}


@pytest.mark.parametrize("kind", ROWS)
def test_sureness_is_that_of_the_answer_whatever_lies_beyond(kind: str) -> None:
    logits = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)) * 3
    beyond = torch.cat([logits, torch.full((20, 2), float("-inf"))], 1)
    found = KINDS.get(kind).sureness(beyond).tolist()
    for own, sure in zip(logits, found, strict=True):
        scores = KINDS.get(kind).answer(own, ROWS[kind], ("x", "y", "z"), None).scores
        assert sure == pytest.approx(-math.log1p(-max(scores.values())), rel=1e-4)


def test_sureness_of_several_labels_is_their_mean() -> None:
    logits = torch.tensor([[2.0, -1.0, float("-inf")], [0.0, 0.0, float("-inf")]])
    sure = [-math.log(1 / (1 + math.exp(x))) for x in (2, 1)]
    expected = [sum(sure) / 2, math.log(2)]
    assert KINDS.get("multi_label").sureness(logits).tolist() == pytest.approx(expected)


def test_a_number_is_as_sure_as_can_be_for_there_is_nothing_to_choose() -> None:
    sure = KINDS.get("regression").sureness(torch.tensor([[1.5], [-2.0]]))
    assert in_steps(sure).tolist() == [round(SUREST / STEP)] * 2
