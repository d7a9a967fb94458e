"""What head outputs mean: classes as they are, choices gathered by row, values raw."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from expertbank.kinds import KINDS
from expertbank.kinds.sequences import logits_by_row

MINUS = float("-inf")

mixtures = st.lists(
    st.one_of(
        st.tuples(st.just(False), st.integers(1, 5)),  # a plain row with so many outputs
        st.tuples(st.just(True), st.integers(1, 5)),  # a row with so many choices
    ),
    min_size=1,
    max_size=9,
)


def built(rows: list[tuple[bool, int]], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, row and kind of every sequence, as a stack of experts gives them."""
    generator = torch.Generator().manual_seed(seed)
    width = max((count for per_choice, count in rows if not per_choice), default=1)
    outputs, row_of, per_choice = [], [], []
    for row, (is_choice, count) in enumerate(rows):
        for _ in range(count if is_choice else 1):
            own = 1 if is_choice else count
            values = torch.full((width,), MINUS)
            values[:own] = torch.randn(own, generator=generator)
            outputs.append(values)
            row_of.append(row)
            per_choice.append(is_choice)
    return torch.stack(outputs), torch.tensor(row_of), torch.tensor(per_choice)


@given(mixtures, st.integers(0, 99))
def test_rows_of_any_mixture_get_their_own_outputs_and_nothing_else(
    rows: list[tuple[bool, int]], seed: int
) -> None:
    outputs, row_of, per_choice = built(rows, seed)
    logits = logits_by_row(outputs, row_of, per_choice)
    sequence = 0
    for row, (is_choice, count) in enumerate(rows):
        if is_choice:
            expected = [float(outputs[sequence + place, 0]) for place in range(count)]
            sequence += count
        else:
            expected = outputs[sequence, :count].tolist()
            sequence += 1
        found = logits[row].tolist()
        assert found[:count] == expected
        assert found[count:] == [MINUS] * (len(found) - count)
    assert sequence == len(outputs)
    assert logits.shape == (len(rows), max(logits.shape[1], *(count for _, count in rows)))


@given(mixtures)
def test_the_gradient_reaches_each_output_that_counts_exactly_once(
    rows: list[tuple[bool, int]],
) -> None:
    outputs, row_of, per_choice = built(rows)
    counts = torch.isfinite(outputs)
    counts[per_choice, 1:] = False
    outputs.requires_grad_(True)
    logits = logits_by_row(outputs, row_of, per_choice)
    (gradient,) = torch.autograd.grad(logits[torch.isfinite(logits)].sum(), outputs)
    assert torch.equal(gradient, counts.float())


@pytest.mark.parametrize(
    ("kind", "outputs"), [("classification", 3), ("multiple_choice", 1), ("regression", 1)]
)
def test_a_head_has_one_output_a_class_and_one_for_a_choice_or_a_value(
    kind: str, outputs: int
) -> None:
    assert KINDS.get(kind).outputs(("a", "b", "c")) == outputs
