"""How dimensions split, which ranks a train can carry, and what it costs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expertbank.errors import InputError
from expertbank.tt import TTShape, factorise


def is_prime(number: int) -> bool:
    return number > 1 and all(number % d for d in range(2, math.isqrt(number) + 1))


@given(st.integers(1, 20_000))
def test_factors_multiply_to_the_dimension_largest_first(dimension: int) -> None:
    factors = factorise(dimension)
    assert math.prod(factors) == dimension
    assert list(factors) == sorted(factors, reverse=True)
    assert dimension == 1 or min(factors) > 1


@pytest.mark.parametrize("prime", [2, 3, 13, 97, 50_261])
def test_a_prime_stays_one_factor(prime: int) -> None:
    assert is_prime(prime)
    assert factorise(prime) == (prime,)


@pytest.mark.parametrize("dimension", [384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192])
def test_usual_widths_split_into_near_balanced_factors(dimension: int) -> None:
    factors = factorise(dimension)
    assert max(factors) <= 2 * min(factors)
    assert max(factors) <= 32


def test_gpt2s_vocabulary_splits_into_its_two_primes() -> None:
    assert factorise(50_257) == (1733, 29)


def test_a_large_prime_factor_does_not_keep_the_rest_from_splitting() -> None:
    assert math.prod(factorise(97 * 64)) == 97 * 64
    assert max(factorise(97 * 64)) == 97


@pytest.mark.parametrize("dimension", [0, -4])
def test_dimensions_below_one_are_refused(dimension: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        factorise(dimension)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 256))
def test_ranks_are_clipped_to_what_the_smaller_side_can_carry(
    rows: int, columns: int, rank: int
) -> None:
    shape = TTShape.of(rows, columns, rank)
    for bond, actual in enumerate(shape.ranks):
        left = math.prod(shape.factors[:bond])
        right = math.prod(shape.factors[bond:])
        inner = 0 < bond < len(shape.factors)
        assert actual == (min(rank, left, right) if inner else 1)


def test_parameters_are_the_sizes_of_the_cores() -> None:
    shape = TTShape((4, 3), (3, 4), (1, 2, 5, 2, 1))
    assert shape.core_shapes == ((1, 4, 2), (2, 3, 5), (5, 3, 2), (2, 4, 1))
    assert shape.parameters == 8 + 30 + 30 + 8
    assert (shape.in_features, shape.out_features, shape.ranks[len(shape.in_factors)]) == (
        12,
        12,
        5,
    )


def test_one_rank_for_each_bond_may_be_given() -> None:
    assert TTShape.of(12, 12, [2, 3, 2], factors=((4, 3), (3, 4))).ranks == (1, 2, 3, 2, 1)


def test_llama_1b_at_full_depth_has_the_papers_33920_parameters() -> None:
    query, value = TTShape.of(2048, 2048, 5), TTShape.of(2048, 512, 5)
    assert query.in_factors + query.out_factors == (16, 8, 4, 4, 4, 4, 8, 16)
    assert value.in_factors + value.out_factors == (16, 16, 4, 2, 2, 16, 16)
    assert 16 * (query.parameters + value.parameters) == 33_920


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_without_a_rank_no_projection_gets_more_numbers_than_lora_of_rank_1(
    rows: int, columns: int
) -> None:
    shape = TTShape.by_width(rows, columns)
    assert (shape.in_features, shape.out_features) == (rows, columns)
    assert shape.parameters <= rows + columns
    assert shape.parameters <= TTShape.of(rows, columns, 5).parameters


@pytest.mark.parametrize(
    ("width", "factors", "numbers"),
    [
        (384, (384, 384), 768),
        (576, (576, 576), 1152),
        (768, (12, 8, 8, 8, 8, 12), 920),
        (2048, (16, 8, 4, 4, 4, 4, 8, 16), 960),
    ],
)
def test_without_a_rank_a_narrow_projection_gets_one_core_a_side_and_a_wide_one_the_papers_train(
    width: int, factors: tuple[int, ...], numbers: int
) -> None:
    shape = TTShape.by_width(width, width)
    assert (shape.factors, shape.parameters) == (factors, numbers)
    assert shape.ranks[len(shape.in_factors)] == (1 if len(factors) == 2 else 5)


@pytest.mark.parametrize(
    ("in_factors", "out_factors", "ranks"),
    [
        ((), (2,), (1, 1)),
        ((2,), (), (1, 1)),
        ((2, 0), (2,), (1, 1, 1, 1)),
        ((2,), (2,), (1, 1)),
        ((2,), (2,), (1, 3, 1)),
        ((2,), (2,), (1, 0, 1)),
        ((2,), (2,), (2, 2, 1)),
        ((2,), (2,), (1, 2.0, 1)),
        ((2.0,), (2,), (1, 2, 1)),
    ],
    ids=[
        "no input factors",
        "no output factors",
        "a factor of zero",
        "a rank too few",
        "a rank that cannot be attained",
        "a rank of zero",
        "an open end",
        "a rank with a point",
        "a factor with a point",
    ],
)
def test_shapes_that_are_no_tensor_train_are_refused(
    in_factors: tuple[int, ...], out_factors: tuple[int, ...], ranks: tuple[int, ...]
) -> None:
    with pytest.raises(InputError):
        TTShape(in_factors, out_factors, ranks)


@pytest.mark.parametrize(
    "arguments",
    [
        {"rank": 2, "factors": ((4, 2), (3, 4))},
        {"rank": [2, 3], "factors": ((4, 3), (3, 4))},
        {"rank": 0},
        {"rank": -1},
    ],
    ids=["wrong product", "a rank too few", "rank zero", "negative rank"],
)
def test_wishes_that_do_not_fit_the_projection_are_refused(arguments: dict) -> None:
    with pytest.raises(InputError):
        TTShape.of(12, 12, **arguments)
