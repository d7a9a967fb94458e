"""Slices of a fused projection: where they are is what their definition says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expertbank.backbones.slices import Slices, check_apart
from expertbank.errors import InputError


@st.composite
def columns(draw: st.DrawFn) -> Slices:
    count, size = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    offset, after = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    stride = offset + size + after
    return Slices(count * stride, count, stride, offset, size)


def numbers_of(one: Slices) -> list[int]:
    return [
        start + place
        for start in range(one.offset, one.width, one.stride)
        for place in range(one.size)
    ]


@settings(max_examples=50)
@given(columns(), st.integers(1, 3))
def test_placed_columns_stand_where_the_definition_says_and_zeros_elsewhere(
    one: Slices, rank: int
) -> None:
    b = torch.arange(1.0, rank * one.features + 1).reshape(rank, one.features)
    expected = torch.zeros(rank, one.width)
    for place, number in enumerate(numbers_of(one)):
        expected[:, number] = b[:, place]
    assert torch.equal(one.place(b), expected)
    assert torch.equal(one.take(one.place(b)), b)


@settings(max_examples=20)
@given(columns())
def test_gradients_flow_back_from_exactly_these_columns(one: Slices) -> None:
    b = torch.zeros(2, one.features, dtype=torch.float64, requires_grad=True)
    weights = torch.arange(1.0, one.width + 1, dtype=torch.float64)
    (one.place(b) * weights).sum().backward()
    assert b.grad is not None
    assert torch.equal(b.grad, one.take(weights.expand(2, -1)))


def test_roles_side_by_side_are_apart_and_overlapping_ones_are_not() -> None:
    check_apart([Slices(96, 4, 24, 16, 8), Slices(96, 4, 24, 0, 8), Slices(96, 4, 24, 8, 8)])
    with pytest.raises(InputError, match="same columns"):
        check_apart([Slices(96, 4, 24, 0, 9), Slices(96, 4, 24, 8, 8)])
    with pytest.raises(InputError, match="differently"):
        check_apart([Slices(96, 4, 24, 0, 8), Slices(96, 1, 96, 32, 32)])


@pytest.mark.parametrize(
    "numbers",
    [
        (96, 0, 24, 0, 8),
        (96, 4, 23, 0, 8),
        (96, 4, 24, 17, 8),
        (96, 4, 24, -1, 8),
        (96, 4, 24, 0, 0),
        (96, -4, -24, 0, 8),
        (96.0, 4, 24, 0, 8),
        (0, 1, 0, 0, 0),
    ],
)
def test_columns_that_no_projection_has_are_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        Slices(*numbers)
