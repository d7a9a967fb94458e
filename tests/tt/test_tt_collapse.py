"""Collapse is exact: the two factors are the tensor train, whatever its shape."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from expertbank.errors import InputError
from expertbank.tt import TTShape, collapse, decompose, dense, initial_cores


def random_cores(shape: TTShape, count: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(count, *core, generator=generator, dtype=torch.float64)
        for core in shape.core_shapes
    ]


def entry(cores: list[Tensor], indices: tuple[int, ...]) -> float:
    """One entry of the full tensor: a product of small matrices, as the definition has it."""
    product = torch.eye(1, dtype=torch.float64)
    for core, index in zip(cores, indices, strict=True):
        product = product @ core[:, index, :]
    return product.item()


def by_definition(cores: list[Tensor], shape: TTShape) -> Tensor:
    rows = list(itertools.product(*map(range, shape.in_factors)))
    columns = list(itertools.product(*map(range, shape.out_factors)))
    values = [[entry(cores, row + column) for column in columns] for row in rows]
    return torch.tensor(values, dtype=torch.float64)


def by_tensordot(cores: list[Tensor], shape: TTShape) -> Tensor:
    """The full tensor from left to right, never through ``A`` and ``B``."""
    full = torch.ones(1, dtype=torch.float64)
    for core in cores:
        full = torch.tensordot(full, core, dims=([-1], [0]))
    return full.squeeze(-1).reshape(shape.in_features, shape.out_features)


shapes = st.builds(
    TTShape.of,
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 12),
)


@settings(max_examples=60)
@given(shapes, st.integers(1, 4), st.integers(0, 2**31))
def test_collapse_equals_the_full_contraction(shape: TTShape, count: int, seed: int) -> None:
    cores = random_cores(shape, count, seed)
    a, b = collapse(cores, shape)
    assert a.shape == (count, shape.in_features, shape.ranks[len(shape.in_factors)])
    assert b.shape == (count, shape.ranks[len(shape.in_factors)], shape.out_features)
    for index in range(count):
        expected = by_tensordot([core[index] for core in cores], shape)
        torch.testing.assert_close(a[index] @ b[index], expected, rtol=1e-10, atol=1e-10)


@settings(max_examples=15)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.integers(1, 4),
    st.integers(0, 2**31),
)
def test_every_entry_is_the_product_of_its_core_slices(
    in_factors: list[int], out_factors: list[int], rank: int, seed: int
) -> None:
    shape = TTShape.of(
        math.prod(in_factors),
        math.prod(out_factors),
        rank,
        factors=(tuple(in_factors), tuple(out_factors)),
    )
    cores = random_cores(shape, 1, seed)
    expected = by_definition([core[0] for core in cores], shape)
    torch.testing.assert_close(dense(cores, shape)[0], expected, rtol=1e-10, atol=1e-10)


@settings(max_examples=20)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 8), st.integers(0, 2**31))
def test_the_updates_rank_is_at_most_the_middle_rank(
    rows: int, columns: int, rank: int, seed: int
) -> None:
    shape = TTShape.of(rows, columns, rank)
    update = dense(random_cores(shape, 1, seed), shape)[0]
    assert torch.linalg.matrix_rank(update) <= shape.ranks[len(shape.in_factors)]


@settings(max_examples=30)
@given(st.integers(1, 36), st.integers(1, 36), st.integers(1, 3), st.integers(0, 2**31))
def test_at_full_rank_any_matrix_is_a_train(rows: int, columns: int, count: int, seed: int) -> None:
    shape = TTShape.of(rows, columns, rows * columns)
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(count, rows, columns, generator=generator, dtype=torch.float64)
    cores = decompose(matrices, shape)
    assert [tuple(core.shape) for core in cores] == [(count, *core) for core in shape.core_shapes]
    torch.testing.assert_close(dense(cores, shape), matrices, rtol=0, atol=1e-10)


@settings(max_examples=30)
@given(shapes, st.integers(1, 3), st.integers(0, 2**31))
def test_a_train_is_found_again_from_its_matrix(shape: TTShape, count: int, seed: int) -> None:
    matrices = dense(random_cores(shape, count, seed), shape)
    again = dense(decompose(matrices, shape), shape)
    assert (again - matrices).norm() <= 1e-10 * matrices.norm()


@settings(max_examples=30)
@given(
    st.integers(2, 30), st.integers(2, 30), st.integers(1, 5), st.booleans(), st.integers(0, 2**31)
)
def test_a_train_of_lower_rank_is_nearly_the_best_one(
    rows: int, columns: int, rank: int, low: bool, seed: int
) -> None:
    """Oseledets (2011), theorem 2.2: the squared error is at most the sum of all cut tails."""
    shape = TTShape.of(rows, columns, rank)
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    if low:  # of lower rank than the shape allows: the spare part is zero, not noise
        matrix = matrix[:, :1] * matrix[:1]
    error = (dense(decompose(matrix[None], shape), shape)[0] - matrix).square().sum()
    tails = 0.0
    for bond, kept in enumerate(shape.ranks[1:-1], start=1):
        unfolded = matrix.reshape(math.prod(shape.factors[:bond]), -1)
        tails += float(torch.linalg.svdvals(unfolded)[kept:].square().sum())
    assert float(error) <= tails + 1e-18 + 1e-12 * float(matrix.square().sum())


def test_a_matrix_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="12 by 18"):
        decompose(torch.zeros(1, 18, 12), TTShape.of(12, 18, 3))


def test_gradients_through_collapse_are_exact() -> None:
    shape = TTShape.of(12, 18, 3, factors=((3, 2, 2), (2, 9)))
    cores = [core.requires_grad_() for core in random_cores(shape, 2, 7)]
    x = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def output(*parts: Tensor) -> Tensor:
        a, b = collapse(parts, shape)
        return (x @ a) @ b

    assert torch.autograd.gradcheck(output, cores)


@settings(max_examples=40)
@given(shapes, st.integers(1, 3), st.integers(0, 2**62))
def test_fresh_cores_give_exactly_no_update(shape: TTShape, count: int, seed: int) -> None:
    cores = initial_cores(shape, count, torch.Generator().manual_seed(seed))
    assert [tuple(core.shape) for core in cores] == [(count, *core) for core in shape.core_shapes]
    assert not dense(cores, shape).any()
    assert all(core.any() for core in cores[:-1])


def test_fresh_cores_can_learn() -> None:
    shape = TTShape.of(32, 32, 4)
    cores = initial_cores(shape, 1, torch.Generator().manual_seed(0))
    leaves = [core.requires_grad_() for core in cores]
    dense(leaves, shape).sum().backward()
    assert leaves[-1].grad is not None
    assert leaves[-1].grad.any()


def test_the_same_seed_gives_the_same_cores_and_another_seed_others() -> None:
    shape = TTShape.of(48, 36, 5)

    def cores(seed: int) -> list[Tensor]:
        return initial_cores(shape, 3, torch.Generator().manual_seed(seed))

    assert all(torch.equal(a, b) for a, b in zip(cores(4), cores(4), strict=True))
    assert not torch.equal(cores(4)[0], cores(5)[0])


@pytest.mark.parametrize("width", [48, 768, 2048])
def test_a_fresh_columns_norm_does_not_depend_on_the_width(width: int) -> None:
    shape = TTShape.of(width, width, 5)
    a, _ = collapse(initial_cores(shape, 64, torch.Generator().manual_seed(0)), shape)
    assert a.pow(2).sum(1).mean().item() == pytest.approx(1, abs=0.35)
