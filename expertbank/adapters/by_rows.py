"""Which adapter an expert gets where nobody names one: more rows carry more numbers."""

from __future__ import annotations

from dataclasses import replace

from expertbank.adapters.targets import targets_of
from expertbank.backbones.backbone import Backbone
from expertbank.config import (
    DEFAULT_ADAPTER,
    DEFAULT_ALPHA,
    MANY_ROWS,
    RANK_OF_MANY,
    AdapterConfig,
    FeatureSpec,
    TrainConfig,
)
from expertbank.tt import TTShape


def suited_to(
    rows: int, wish: AdapterConfig, train: TrainConfig, spec: FeatureSpec, backbone: Backbone
) -> AdapterConfig:
    """The wish, or with many rows LoRA of rank 4 in place of rank 1.

    Where a train has fewer numbers than LoRA of rank 1, which is where the backbone is wide, it
    stays. So does the default where a rank, a rate or another alpha was named, which suited that
    default. Chosen by ``examples/benchmarks/recipe.py`` on training rows of classification, 700 to
    3,000 a task, with the default alpha: at the rate of rank 1, rank 4 is worse.

    Args:
        rows: training rows, those held out to choose the checkpoint among them.
        wish: what was asked for.
        train: how it is to be trained.
        spec: the bank's.
        backbone: the frozen model.
    """
    sized = wish.tt_rank is not None or wish.rank is not None or bool(wish.settings)
    rated = train.lr is not None or wish.multiplier(spec) != DEFAULT_ALPHA
    named = wish.kind != DEFAULT_ADAPTER or sized or rated
    if named or rows < MANY_ROWS:
        return wish
    targets = targets_of(wish, spec, backbone.model, backbone.family)
    shapes = {TTShape.by_width(one.in_features, one.out_features) for one in targets}
    if any(len(shape.factors) > 2 for shape in shapes):
        return wish
    return replace(wish, kind="lora", rank=RANK_OF_MANY)
