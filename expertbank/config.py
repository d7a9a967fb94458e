"""Frozen, validated settings. One dataclass per thing a user can decide.

Every dataclass checks itself when built, so a value that exists is a value that is legal.
``canonical_json`` is the one text form of settings: digests are taken over it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from expertbank.errors import InputError

ExportFormat = Literal["bundle", "peft"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = ("bundle", "peft")
"""A bundle predicts without the bank; ``peft`` is LoRA adapters for other programs."""
Keep = Literal["features", "stats"]
KEEPS: tuple[Keep, ...] = ("features", "stats")
POOLINGS = ("mean", "first", "last")
PoolingWish = Literal["auto", "mean", "first", "last"]
DTYPES = ("float32", "bfloat16")
DEFAULT_BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_MAX_LENGTH = 256
DEFAULT_SEED = 0
DEFAULT_GATE = "lda"
PAPER_GATE = "noisy-top1"
DEFAULT_ALPHA = 4.0
PAPER_ALPHA = 16.0


def canonical_json(value: object) -> str:
    """Text of ``value`` with sorted keys and no spare white space: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_text(text: str) -> str:
    """Hexadecimal SHA-256 of ``text`` in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InputError(message)


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """What all experts of one bank share, fixed by ``init``.

    Attributes:
        backbone_digest: identity of the frozen backbone.
        route_layer: index of the first layer that adapters may act on; the layers below it
            are the trunk. The routing feature is read from the input of this layer and of
            the layers below. ``0`` is the paper's way (arXiv 2504.21190): adapters at full
            depth, and a bare pass before the adapted one that gives the feature.
        states: which hidden states form the feature; ``n`` is the input of layer ``n``
            (``hidden_states[n]`` in transformers), so ``0`` is the embedding output. With
            route layer 0 it is one, the number of layers: the backbone's last hidden state.
        poolings: how each state becomes one vector: ``mean`` over real tokens, ``first``
            or ``last`` real token.
        max_length: longest sequence in tokens; longer rows are truncated.
        dtype: floating-point type of the backbone's weights while it runs.
        keep: what stays of a task's rows for the router: their ``features``, or only ``stats``,
            the moments of a fixed projection of them. Left out of ``to_dict`` where it is the
            default, so that specs of banks that never chose keep their digests.

    Raises:
        InputError: a state that the route layer does not allow, an unknown pooling, a length
            below 8.
    """

    backbone_digest: str
    route_layer: int
    states: tuple[int, ...]
    poolings: tuple[str, ...]
    max_length: int = DEFAULT_MAX_LENGTH
    dtype: str = "float32"
    keep: Keep = "features"

    def __post_init__(self) -> None:
        _require(self.route_layer >= 0, f"route layer must be at least 0, got {self.route_layer}")
        _require(bool(self.states), "the feature needs at least one hidden state")
        if self.two_passes:
            _require(
                len(self.states) == 1 and self.states[0] >= 1,
                f"with route layer 0 the feature is the last hidden state alone, "
                f"got states {list(self.states)}",
            )
        else:
            _require(
                all(0 <= state <= self.route_layer for state in self.states),
                f"hidden states {list(self.states)} must lie between 0 and the route layer "
                f"{self.route_layer}",
            )
        unknown = [pooling for pooling in self.poolings if pooling not in POOLINGS]
        _require(
            bool(self.poolings) and not unknown,
            f"unknown pooling {unknown}; known: {', '.join(POOLINGS)}",
        )
        _require(self.max_length >= 8, f"maximum length must be at least 8, got {self.max_length}")
        _require(
            self.dtype in DTYPES,
            f"dtype must be {' or '.join(DTYPES)}, got {self.dtype}",
        )
        _require(self.keep in KEEPS, f"keep must be features or stats, got {self.keep!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        plain = {**asdict(self), "states": list(self.states), "poolings": list(self.poolings)}
        if self.keep == "features":
            del plain["keep"]
        return plain

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> FeatureSpec:
        """Inverse of ``to_dict``."""
        return cls(
            **{**value, "states": tuple(value["states"]), "poolings": tuple(value["poolings"])}
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form."""
        return sha256_text(canonical_json(self.to_dict()))

    @property
    def two_passes(self) -> bool:
        """Whether a bare pass for routing comes before the adapted one, as in the paper."""
        return self.route_layer == 0

    @property
    def default_gate(self) -> str:
        """The gate of a user who names none: with two passes the paper's own."""
        return PAPER_GATE if self.two_passes else DEFAULT_GATE


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Shape of one expert's TT-LoRA adapter (arXiv 2504.21190, section 3.1).

    Attributes:
        tt_rank: inner TT rank, the same at every bond, clipped to what is attainable.
        alpha: plain multiplier of the update; not divided by the rank. ``None`` is 4, and with
            route layer 0 the paper's 16.
        projections: roles of the adapted projections in every branch layer, among ``query``,
            ``key`` and ``value``. ``None`` is query and value; value alone in DeBERTa models
            that put their relative positions through the query projection too.
        modules: names of modules to adapt instead, each as a whole, in every branch layer: last
            parts of their paths, such as ``o_proj`` or ``mlp.up_proj``. The only way for models
            outside the table of families.
        pooling: what the head reads of the last hidden states: their ``mean`` over real tokens,
            the ``first`` or the ``last`` real token; ``auto`` is the mean for encoders and the
            last token for decoders, whose earlier tokens have not seen the later ones.
    """

    tt_rank: int = 5
    alpha: float | None = None
    projections: tuple[str, ...] | None = None
    pooling: PoolingWish = "auto"
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(1 <= self.tt_rank <= 256, f"TT rank must be 1 to 256, got {self.tt_rank}")
        if self.alpha is not None:
            _require(0 < self.alpha < 1e6, f"alpha must be positive, got {self.alpha}")
            object.__setattr__(self, "alpha", float(self.alpha))  # 4 and 4.0 are one setting
        _require(
            self.projections is None or not self.modules,
            "projections are chosen by role or by name, not both",
        )
        _require(
            all(self.modules) and len(set(self.modules)) == len(self.modules),
            f"names of modules must not be empty or repeat, got {list(self.modules)}",
        )
        poolings = get_args(PoolingWish)
        _require(
            self.pooling in poolings,
            f"pooling must be one of {', '.join(poolings)}, got {self.pooling!r}",
        )
        if self.projections is None:
            return
        known = {"query", "key", "value"}
        _require(
            bool(self.projections) and set(self.projections) <= known,
            f"projections must be among {sorted(known)}, got {list(self.projections)}",
        )
        _require(
            len(set(self.projections)) == len(self.projections),
            f"projections must not repeat, got {list(self.projections)}",
        )

    def multiplier(self, spec: FeatureSpec) -> float:
        """Alpha, where it was left open the default under ``spec``."""
        if self.alpha is not None:
            return self.alpha
        return PAPER_ALPHA if spec.two_passes else DEFAULT_ALPHA


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How one expert is trained.

    Attributes:
        epochs: passes over the training rows.
        lr: peak learning rate of the TT cores.
        head_lr: peak learning rate of the head.
        patience: epochs without a better held-out score after which training ends early.
        balance: weigh classes by the inverse of their frequency in the loss.
        weight_decay: decoupled weight decay of cores and head (AdamW).
        batch_size: rows an optimiser step sees.
        accumulate: micro-batches that a step's rows are cut into to save memory; the gradient is
            that of all its rows together.
        checkpoint_layers: recompute the branch layers in the backward pass: less memory, about
            a third more time, the same gradient.
        cache_bytes: most bytes for trunk states that are computed once and used in every epoch;
            rows that do not fit run the trunk each time, 0 keeps none.
        warmup: share of the steps in which the rate rises linearly, before the cosine.
        seed: seeds initialisation, row selection and order.
        limit: most training rows used, ``None`` for all.
        eval_limit: most validation rows used.
        selection_share: share of the training rows held out to choose the checkpoint.
        selection_floor: held out at least this many, as long as that is no more than a fifth
            of the rows: fewer would choose by chance.
    """

    epochs: int = 3
    lr: float = 5e-3
    head_lr: float = 1e-3
    patience: int = 3
    balance: bool = False
    weight_decay: float = 0.01
    batch_size: int = 16
    accumulate: int = 1
    checkpoint_layers: bool = False
    cache_bytes: int = 2**30
    warmup: float = 0.06
    seed: int = DEFAULT_SEED
    limit: int | None = None
    eval_limit: int = 2000
    selection_share: float = 0.1
    selection_floor: int = 100

    def __post_init__(self) -> None:
        _require(1 <= self.epochs <= 1000, f"epochs must be 1 to 1000, got {self.epochs}")
        _require(0 < self.lr < 10, f"learning rate must be above 0, got {self.lr}")
        _require(0 < self.head_lr < 10, f"head learning rate must be above 0, got {self.head_lr}")
        _require(self.patience >= 1, f"patience must be at least 1 epoch, got {self.patience}")
        _require(self.weight_decay >= 0, f"weight decay must not be negative: {self.weight_decay}")
        _require(self.batch_size >= 1, f"batch size must be at least 1, got {self.batch_size}")
        _require(
            1 <= self.accumulate <= self.batch_size,
            f"micro-batches per step must be 1 to the batch size {self.batch_size}, "
            f"got {self.accumulate}",
        )
        _require(self.cache_bytes >= 0, f"cache memory must not be negative: {self.cache_bytes}")
        _require(0 <= self.warmup < 1, f"warm-up share must be in [0, 1), got {self.warmup}")
        _require(0 <= self.seed < 2**63, f"seed must be 0 to 2^63-1, got {self.seed}")
        _require(
            self.limit is None or self.limit >= 8,
            f"limit must be at least 8 rows, got {self.limit}",
        )
        _require(self.eval_limit >= 1, f"eval limit must be at least 1, got {self.eval_limit}")
        _require(
            0 < self.selection_share < 0.9,
            f"selection share must be in (0, 0.9), got {self.selection_share}",
        )
        _require(self.selection_floor >= 1, f"selection floor below 1: {self.selection_floor}")

    def selection_share_of(self, rows: int) -> float:
        """The share to hold out of ``rows`` training rows, floor included."""
        return max(self.selection_share, min(0.2, self.selection_floor / max(rows, 1)))
