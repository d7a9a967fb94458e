"""Frozen, validated settings. One dataclass per thing a user can decide.

Every dataclass checks itself when built, so a value that exists is a value that is legal. What a
field means, its bounds and its name on the command line stand beside it and nowhere else.
``canonical_json`` is the one text form of settings: digests are taken over it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypedDict, get_args

from expertbank.errors import InputError
from expertbank.plain import Numbers, plain, typed
from expertbank.settings import check, setting

ExportFormat = Literal["bundle", "peft", "gguf"]
"""A bundle predicts without the bank; ``peft`` and ``gguf`` are LoRA adapters for others."""
Keep = Literal["features", "stats"]
KEEPS: tuple[Keep, ...] = ("features", "stats")
POOLINGS = ("mean", "first", "last")
ROLES = ("query", "key", "value")
"""What attention's projections compute; each can be adapted."""
PoolingWish = Literal["auto", "mean", "first", "last", "pair"]
Dtype = Literal["float32", "bfloat16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
DEFAULT_BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_MAX_LENGTH = 256
SHORTEST = 8
"""Fewest tokens that a bank may cut its texts at."""
DEFAULT_SEED = 0
DEFAULT_TRIALS = 20
DEFAULT_GATE = "lda"
PAPER_GATE = "noisy-top1"
DEFAULT_ADAPTER = "tt"
NO_ADAPTER = "none"
"""That of experts which are not trained; it cannot be asked for."""
MANY_ROWS, RANK_OF_MANY = 2000, 4
"""Training rows from which LoRA of that rank is trained in place of rank 1: with 3,000 it was the
better one, with 700 not."""
DEFAULT_MARGIN = 0.01
"""Largest loss of accuracy that counts as preserved."""
GRACE_HOURS = 24.0
"""Files younger than this are never taken for leftovers, whatever the registry says."""
UNKNOWN_GROUPS, TYPICAL_ROWS = 10, 3
"""Groups of unknown rows that are told of, and rows of each that are shown."""
DEFAULT_ALPHA = 4.0
PAPER_ALPHA = 16.0
_CANONICAL, _FINITE = (
    json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=infinite)
    for infinite in (True, False)
)


def canonical_json(value: object, *, finite: bool = False) -> str:
    """Text of ``value`` with sorted keys and no spare white space: equal values, equal text.

    Args:
        value: anything that JSON has a form for.
        finite: refuse numbers that JSON has no name for. Configurations of backbones, whose
            digests are kept, have such; nothing else of ours may.

    Raises:
        ValueError: a number that is not finite, where that is refused.
    """
    return (_FINITE if finite else _CANONICAL).encode(value)


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
        route_layer: index of the first layer that adapters act on, unless one reaches lower;
            the layers below it are the trunk. The routing feature is read from the input of
            this layer and of the layers below. ``0`` is the paper's way (arXiv 2504.21190):
            adapters at full depth, and a bare pass before the adapted one that gives the feature.
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
        _require(
            self.max_length >= SHORTEST,
            f"maximum length must be at least {SHORTEST}, got {self.max_length}",
        )
        _require(self.dtype in DTYPES, f"dtype must be {' or '.join(DTYPES)}, got {self.dtype}")
        _require(self.keep in KEEPS, f"keep must be features or stats, got {self.keep!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        found: dict[str, Any] = plain(self)
        if self.keep == "features":
            del found["keep"]
        return found

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


class BankKeywords(TypedDict, total=False):
    """``BankConfig`` as keywords, for type checkers: the same names and types."""

    backbone: str | None
    route_layer: int | None
    max_length: int | None
    dtype: Dtype | None
    keep: Keep | None
    store: str | None


@dataclass(frozen=True, slots=True)
class BankConfig:
    """What a user wants a bank to be; ``None`` leaves what the bank has.

    A bank without a backbone takes these values, or the defaults, for good. One that has them
    only compares: all its experts share its ``FeatureSpec``.
    """

    backbone: str | None = setting(
        None,
        "Hub name (org/name[@revision]), folder or GGUF file of the backbone; for a bank that has "
        "one, where it is now.",
        unset="all-MiniLM-L6-v2",
    )
    route_layer: int | None = setting(
        None,
        "First layer that adapters act on, unless one reaches lower; routing reads its input. 0 "
        "runs the backbone twice, as the paper does.",
        least=0,
        unset="one third of the depth",
    )
    max_length: int | None = setting(
        None,
        "Longest sequence in tokens; longer texts are cut. Fixed for the whole bank by its first "
        "command.",
        least=SHORTEST,
        unset=f"{DEFAULT_MAX_LENGTH}, or less where model or tokenizer take less",
    )
    dtype: Dtype | None = setting(
        None,
        "Type of the backbone's weights while it runs; what is trained is float32 either way.",
        unset="float32",
    )
    keep: Keep | None = setting(
        None,
        "What stays of rows for the router: their features, or only stats: no row at all.",
        unset="features",
    )
    store: str | None = setting(
        None,
        "URL of where the bank's files are kept, such as file:///data/objects. Each bank needs one "
        "of its own.",
        unset="a folder in the bank's own",
    )

    def __post_init__(self) -> None:
        check(self)
        _require(
            self.backbone is None or bool(self.backbone.strip()),
            "the backbone's name is empty; leave it out for the default",
        )

    def of_spec(self) -> dict[str, Any]:
        """The values wished for that are the feature spec's, by its fields' names."""
        shared = {item.name for item in fields(self)} & {item.name for item in fields(FeatureSpec)}
        values = {name: getattr(self, name) for name in sorted(shared)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Kind and shape of one expert's adapter; TT-LoRA's are in arXiv 2504.21190, section 3.1."""

    kind: str = setting(
        DEFAULT_ADAPTER,
        "Kind of adapter: tt, lora, uni-lora, or one that a plugin brings.",
        option="adapter",
    )
    tt_rank: Numbers | None = setting(
        None,
        "Rank of a tensor train's bonds: one for all, or three as 9,2,9: among the input factors, "
        "between input and output, among the output factors. Clipped to what is attainable.",
        least=1,
        most=256,
        unset="by width: 5, or where it has fewer numbers one core a side of rank 1, which is "
        f"LoRA; there from {MANY_ROWS:,} training rows on, without --lr and --alpha, lora of rank "
        f"{RANK_OF_MANY}",
    )
    rank: int | None = setting(
        None, "Rank of every other kind.", least=1, most=1024, unset="the kind's own"
    )
    alpha: float | None = setting(
        None,
        "Multiplier of the update, not divided by the rank.",
        above=0,
        below=1e6,
        unset=f"{DEFAULT_ALPHA:g}, {PAPER_ALPHA:g} at route layer 0",
    )
    projections: tuple[str, ...] | None = setting(
        None,
        "Role of an adapted projection in every adapted layer: query, key or value; repeat it for "
        "more.",
        option="projection",
        unset="query and value, or value alone where relative positions go through the query",
    )
    pooling: PoolingWish = setting(
        "auto",
        "What the head reads of the last hidden states: their mean, the first or the last token, "
        "or of rows of two texts the mean and how those of each differ and agree (pair). auto is "
        "last for decoders, and for encoders pair where rows have two texts and labels, neither "
        "choices nor numbers, else the mean.",
    )
    modules: tuple[str, ...] = setting(
        (),
        "Module to adapt instead, as a whole, in every adapted layer: the last parts of its path, "
        "such as o_proj or mlp.up_proj; repeat it for more. Needed where trying a "
        "model outside the table of families does not show its query and value.",
        option="target",
    )
    first_layer: int | None = setting(
        None,
        "First layer that the adapter acts on, the lowest is 0. Below the bank's route layer it "
        "reaches what the router reads: a batch that needs it runs those layers a second time.",
        least=0,
        unset="the bank's route layer",
    )
    settings: tuple[str, ...] = setting(
        (),
        "A setting of this kind of adapter alone, NAME=VALUE; repeat it for more.",
        option="adapter_set",
        unset="the kind's own",
    )

    def __post_init__(self) -> None:
        check(self)
        _require(
            self.projections is None or not self.modules,
            "projections are chosen by role or by name, not both",
        )
        _require(
            all(self.modules) and len(set(self.modules)) == len(self.modules),
            f"names of modules must not be empty or repeat, got {list(self.modules)}",
        )
        if self.projections is None:
            return
        known = set(ROLES)
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

    def start(self, spec: FeatureSpec) -> int:
        """First layer to adapt, where it was left open the route layer of ``spec``."""
        return spec.route_layer if self.first_layer is None else self.first_layer


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """How settings are searched for one task before its expert is trained (extra ``tune``)."""

    trials: int | None = setting(
        None,
        "Search rates, alpha and decay in so many trials, on held-out training rows; without a "
        f"number {DEFAULT_TRIALS}.",
        option="tune",
        least=2,
        most=1000,
        unset="no search",
    )
    minutes: float = setting(
        60.0,
        "Minutes after which the search begins no further trial.",
        option="tune_minutes",
        above=0,
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How one expert is trained.

    Epochs, patience, rates and decay are what ``examples/benchmarks/recipe.py`` chose on training
    rows of five tasks; its runs are in ``examples/benchmarks/results/recipe.jsonl``. What patience
    waits for, and over how many steps weights are averaged, was held against other rules and means
    by ``examples/benchmarks/patience.py``.
    """

    epochs: int = setting(
        10,
        "Passes over the training rows, at most: training ends when patience does.",
        least=1,
        most=1000,
    )
    lr: float | None = setting(
        None,
        "Peak learning rate of the adapter.",
        above=0,
        below=10,
        unset="the kind's own: 0.005, of lora 0.002 from rank 2 on, 0.001 from rank 5 on",
    )
    head_lr: float = setting(1e-3, "Peak learning rate of the head.", above=0, below=10)
    patience: int = setting(
        3,
        "Epochs after which training ends if they brought neither a better held-out score nor a "
        "lower held-out loss.",
        least=1,
    )
    average_steps: int = setting(
        50,
        "What is kept is the mean of the weights over about so many last steps, or over a third of "
        "those done where that is less; 1 keeps the weights of the last step.",
        least=1,
    )
    balance: bool = setting(False, "Weigh classes by the inverse of their frequency in the loss.")
    weight_decay: float = setting(
        0.01, "Decoupled weight decay of cores and head (AdamW).", least=0
    )
    batch_size: int = setting(16, "Rows an optimiser step sees.", least=1)
    accumulate: int = setting(
        1,
        "Micro-batches a step's rows are cut into to save memory; the gradient is that of all "
        "its rows together.",
        least=1,
    )
    checkpoint_layers: bool = setting(
        False,
        "Recompute layers backwards: less memory, about a third more time, the same gradient.",
    )
    cache_bytes: int = setting(
        2**30,
        "MiB for trunk states that are computed once and used in every epoch; rows that do not "
        "fit run the trunk each time, 0 keeps none.",
        option="cache_memory",
        unit=2**20,
        least=0,
    )
    warmup: float = setting(
        0.06,
        "Share of the steps in which the rate rises linearly, before the cosine.",
        least=0,
        below=1,
    )
    seed: int = setting(
        DEFAULT_SEED, "Seeds initialisation, row selection and order.", least=0, most=2**63 - 1
    )
    limit: int | None = setting(None, "Most training rows to use.", least=8, unset="all")
    eval_limit: int = setting(2000, "Most validation rows to use.", least=1)
    selection_share: float = setting(
        0.1, "Share of the training rows held out to choose the checkpoint.", above=0, below=0.9
    )
    selection_floor: int = setting(
        100,
        "Hold out at least this many, as long as that is no more than a fifth of the rows: fewer "
        "would choose by chance.",
        least=1,
    )

    def __post_init__(self) -> None:
        check(self)
        _require(
            self.accumulate <= self.batch_size,
            f"accumulate must be 1 to the batch size {self.batch_size}, got {self.accumulate}",
        )

    def selection_share_of(self, rows: int) -> float:
        """The share to hold out of ``rows`` training rows, floor included."""
        return max(self.selection_share, min(0.2, self.selection_floor / max(rows, 1)))


def bank_config(config: BankConfig | None, settings: Mapping[str, Any]) -> BankConfig:
    """What a bank shall be, of a ``BankConfig`` and of its fields as keywords, which win.

    Raises:
        InputError: no ``BankConfig``, or a keyword that is a setting of something else.
        TypeError: a keyword that is no setting of anything.
    """
    known = [item.name for item in fields(BankConfig)]
    for key in settings:
        owners = [cls for cls in _OTHERS if key in {item.name for item in fields(cls)}]
        if key not in known and owners:
            named = " or ".join(f"{_OTHERS[cls]}={cls.__name__}({key}=…)" for cls in owners)
            raise InputError(f"{key!r} is no setting of a bank; give {named}")
    given = BankConfig() if config is None else typed(BankConfig, config, "settings", "bank")
    return replace(given, **settings)


_OTHERS: dict[Any, str] = {TrainConfig: "train", AdapterConfig: "adapter", TuneConfig: "tune"}
"""The other settings, and the arguments they are given by."""
