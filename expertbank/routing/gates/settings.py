"""Settings that several kinds of gate have."""

from __future__ import annotations

from dataclasses import dataclass

from expertbank.config import DEFAULT_SEED
from expertbank.settings import check, setting


@dataclass(frozen=True)
class ClosedForm:
    """Settings of a gate that is solved for."""

    ridge: float = setting(
        1e-2, "Regularisation, relative to the diagonal of the covariance.", above=0
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class ByGradient:
    """Settings of a gate that is trained."""

    epochs: int | None = setting(
        None,
        "Passes over the cached features.",
        least=1,
        unset="60, of mlp what 400 steps take, at least 6",
    )
    lr: float | None = setting(  # far above any that converges, and float32 can hold it
        None, "Learning rate.", above=0, most=1e6, unset="0.01, of mlp 0.001"
    )
    seed: int = setting(
        DEFAULT_SEED, "Seeds initialisation, order and noise.", least=0, most=2**63 - 1
    )

    def __post_init__(self) -> None:
        check(self)
