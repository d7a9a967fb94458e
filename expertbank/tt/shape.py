"""The shape of a tensor train: how two dimensions split into factors, and the bonds between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from expertbank.errors import InputError

FACTOR_TARGET = 24
"""Factors aim at this size: larger ones spend parameters, smaller ones add cores to train through.

Measured on MiniLM's 384 columns, rank 5, 2,400 training rows of MRPC and 1,268 held-out training
rows, one seed: factors 8·8·6 (target 12) 0.693 right with 780 numbers a projection, 24·16 0.704
with 1,040.
"""

DEFAULT_RANK = 5
"""Rank of every bond where a train has several cores a side and nobody says another."""

PAPER_FACTORS: dict[tuple[int, int], tuple[tuple[int, ...], tuple[int, ...]]] = {
    (2048, 2048): ((16, 8, 4, 4), (4, 4, 8, 16)),
    (2048, 512): ((16, 16, 4, 2), (2, 16, 16)),
}
"""Factors the paper uses for LLaMA-3.2-1B's query and value (arXiv 2504.21190, section 4)."""


def factorise(dimension: int) -> tuple[int, ...]:
    """Split ``dimension`` into near-balanced factors, largest first.

    The number of factors is the smallest that could bring each down to ``FACTOR_TARGET``;
    prime factors then go, largest first, to the product that is smallest so far. A prime
    factor is never split, so a prime dimension stays a single factor; GPT-2's vocabulary of
    50,257 is 1,733 · 29.

    Raises:
        InputError: ``dimension`` is not positive.
    """
    if dimension < 1:
        raise InputError(f"cannot factorise {dimension}: a dimension is at least 1")
    primes = _prime_factors(dimension)
    count = min(max(1, len(primes)), max(1, math.ceil(math.log(dimension, FACTOR_TARGET) - 1e-9)))
    factors = [1] * count
    for prime in sorted(primes, reverse=True):
        factors[factors.index(min(factors))] *= prime
    return tuple(sorted(factors, reverse=True))


def _prime_factors(number: int) -> list[int]:
    primes: list[int] = []
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            primes.append(divisor)
            number //= divisor
        divisor += 1
    if number > 1:
        primes.append(number)
    return primes


@dataclass(frozen=True, slots=True)
class TTShape:
    """Shape of the tensor train of one update ``ΔW [in, out]``.

    Attributes:
        in_factors: ``m1 … mp`` with product ``in``; these cores come first.
        out_factors: ``n1 … nq`` with product ``out``.
        ranks: ``r_0 … r_{p+q}``, the first and the last are 1.

    Raises:
        InputError: a factor below 1, ranks that do not fit the factors, or no whole numbers.
    """

    in_factors: tuple[int, ...]
    out_factors: tuple[int, ...]
    ranks: tuple[int, ...]

    def __post_init__(self) -> None:
        factors = self.factors
        if not all(type(number) is int for number in (*factors, *self.ranks)):
            raise InputError(f"factors {factors} and ranks {self.ranks} must be whole numbers")
        if not self.in_factors or not self.out_factors or min(factors) < 1:
            raise InputError(f"tensor-train factors must be at least 1, got {factors}")
        if len(self.ranks) != len(factors) + 1:
            raise InputError(
                f"{len(factors)} cores need {len(factors) + 1} ranks, got {len(self.ranks)}"
            )
        limits = _attainable(factors)
        if any(not 1 <= rank <= limit for rank, limit in zip(self.ranks, limits, strict=True)):
            raise InputError(f"ranks {self.ranks} exceed what is attainable: {limits}")

    @classmethod
    def of(
        cls,
        in_features: int,
        out_features: int,
        rank: int | Sequence[int],
        *,
        factors: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
    ) -> TTShape:
        """Shape for a projection ``[in_features, out_features]``.

        Large factors stand at the outer ends, where the bond of rank 1 makes them cheap.

        Args:
            in_features: rows of ``ΔW``.
            out_features: columns of ``ΔW``.
            rank: one inner rank for every bond; three: of the bonds among input factors, of the
                middle one, and of those among output factors; or one for each of the inner
                bonds. All are clipped to what is attainable there.
            factors: explicit ``(in_factors, out_factors)``; default the paper's where it
                names them, else ``factorise``.

        Raises:
            InputError: factors whose product is not the dimension, or the wrong number of ranks.
        """
        if factors is None:
            factors = PAPER_FACTORS.get((in_features, out_features)) or (
                factorise(in_features),
                factorise(out_features)[::-1],
            )
        in_factors, out_factors = factors
        if math.prod(in_factors) != in_features or math.prod(out_factors) != out_features:
            raise InputError(
                f"factors {in_factors} | {out_factors} do not multiply to "
                f"{in_features} by {out_features}"
            )
        bonds = len(in_factors) + len(out_factors) - 1
        inner = [rank] * bonds if isinstance(rank, int) else list(rank)
        if len(inner) == 3 != bonds:
            left, middle, right = inner
            inner = [left] * (len(in_factors) - 1) + [middle] + [right] * (len(out_factors) - 1)
        if len(inner) != bonds:
            raise InputError(f"{bonds + 1} cores have {bonds} inner bonds, got {len(inner)} ranks")
        limits = _attainable((*in_factors, *out_factors))
        ranks = tuple(min(r, limit) for r, limit in zip((1, *inner, 1), limits, strict=True))
        return cls(tuple(in_factors), tuple(out_factors), ranks)

    @classmethod
    def uncut(cls, in_features: int, out_features: int, rank: int | Sequence[int]) -> TTShape:
        """One core a side, which is LoRA; arguments and errors as of ``of``."""
        return cls.of(in_features, out_features, rank, factors=((in_features,), (out_features,)))

    @classmethod
    def by_width(cls, in_features: int, out_features: int) -> TTShape:
        """The shape where nobody says a rank: of two the one with fewer numbers.

        One core a side at rank 1 has ``in + out`` numbers. A train of rank ``DEFAULT_RANK`` has
        fewer where both widths have factors and are large, mostly from 768 on. Where it has more,
        it was also less accurate, by a point over 19 tasks at widths of 384 and 576
        (``examples/benchmarks/together.py``).
        """
        cut = cls.of(in_features, out_features, DEFAULT_RANK)
        uncut = cls.uncut(in_features, out_features, 1)
        return cut if cut.parameters < uncut.parameters else uncut

    @property
    def factors(self) -> tuple[int, ...]:
        """All factors, inputs first."""
        return (*self.in_factors, *self.out_factors)

    @property
    def in_features(self) -> int:
        """Product of the input factors."""
        return math.prod(self.in_factors)

    @property
    def out_features(self) -> int:
        """Product of the output factors."""
        return math.prod(self.out_factors)

    @property
    def core_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """``(r_{k-1}, d_k, r_k)`` for every core."""
        return tuple(
            (self.ranks[k], factor, self.ranks[k + 1]) for k, factor in enumerate(self.factors)
        )

    @property
    def parameters(self) -> int:
        """Numbers in all cores of one projection."""
        return sum(left * factor * right for left, factor, right in self.core_shapes)


def _attainable(factors: Sequence[int]) -> tuple[int, ...]:
    """Largest rank each bond can carry: the smaller side's dimension."""
    return tuple(
        min(math.prod(factors[:bond]), math.prod(factors[bond:]))
        for bond in range(len(factors) + 1)
    )
