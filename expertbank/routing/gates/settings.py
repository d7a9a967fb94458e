"""Settings that several kinds of gate have."""

from __future__ import annotations

from dataclasses import dataclass

from expertbank.config import DEFAULT_SEED
from expertbank.errors import InputError

FASTEST = 1e6
"""Largest learning rate: far above any that converges, far below what float32 cannot hold."""


@dataclass(frozen=True)
class ClosedForm:
    """Settings of a gate that is solved for.

    Attributes:
        ridge: regularisation, relative to the diagonal of the covariance.
    """

    ridge: float = 1e-2

    def __post_init__(self) -> None:
        if not 0 < self.ridge < float("inf"):
            raise InputError(f"ridge must be positive, got {self.ridge}")


@dataclass(frozen=True)
class ByGradient:
    """Settings of a gate that is trained.

    Attributes:
        epochs: passes over the cached features; ``None`` for what suits the kind.
        lr: learning rate; ``None`` for what suits the kind.
        seed: seeds initialisation, order and noise.
    """

    epochs: int | None = None
    lr: float | None = None
    seed: int = DEFAULT_SEED

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 1:
            raise InputError(f"epochs must be at least 1, got {self.epochs}")
        if self.lr is not None and not 0 < self.lr <= FASTEST:
            raise InputError(f"learning rate must be positive, at most {FASTEST:g}, got {self.lr}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed must be 0 to 2^63-1, got {self.seed}")
