"""Features of short spans of training rows, made at ``add``: rows of which less is said."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from expertbank.data.spans import span_of
from expertbank.models.routed import RoutedModel
from expertbank.records import EncodedRow, ProgressCallback, RowShape, no_progress
from expertbank.routing.feature_file import Spans
from expertbank.routing.known import BINS
from expertbank.routing.statistics import sits_out
from expertbank.routing.sureness import unasked
from expertbank.workflows.measure import trunk_features

SHORTEST, EVERY = 6, 8
"""Fewest tokens of a span, and one row in so many that is summed has one. (Measured once over
thirteen tasks, by no script that is kept: rows cut to 8, 16 and 32 tokens route at 0.74, 0.84 and
0.92 in place of 0.50, 0.61 and 0.82, whole ones at 0.960 in place of 0.962; with one row in two it
was 0.75, 0.85, 0.93 and 0.958.)"""
SPANNED = 12
"""Rows of up to so many tokens are short themselves and have no spans."""
SUMMED = ((SHORTEST, BINS[-1]),)
BESIDE = tuple((max(SHORTEST, low + 1), high) for low, high in zip((0, *BINS), BINS, strict=False))
"""Least and most tokens of the spans of rows that are summed, and of those that sit out."""


def short_spans(
    model: RoutedModel,
    rows: Sequence[tuple[EncodedRow, RowShape]],
    dimension: int,
    seed: int,
    sure: Callable[[Sequence[EncodedRow]], Tensor],
    progress: ProgressCallback = no_progress,
) -> Spans:
    """Features of spans of training rows.

    Of every row that sits out of the statistics one for each bin of length, of some of the others
    one of any length, which goes into the sums; none of rows that are hardly longer themselves.

    Args:
        model: whose trunk the features are of.
        rows: training rows, and what each brings.
        dimension: width of features.
        seed: decides which stretches are taken, and how long they are.
        sure: how sure the expert is of its answers to rows, ``[rows]`` int16; asked of spans of
            rows that sit out.
        progress: told as features are made.
    """
    out = sits_out(len(rows)).tolist()
    special = frozenset(model.backbone.tokenizer.all_special_ids)
    drawn = random.Random(seed)  # noqa: S311 (no secret)
    found: list[tuple[EncodedRow, RowShape, bool]] = []
    for place, ((row, shape), sits) in enumerate(zip(rows, out, strict=True)):
        for low, high in BESIDE if sits else SUMMED if place % EVERY == 0 else ():
            most = min(high, row.length - 1)
            if most >= low and row.length > SPANNED:
                tokens = drawn.randint(low, most)
                found.append((span_of(row, tokens, special, drawn), shape, not sits))
    if not found:
        return Spans.none(dimension)
    spans = [row for row, _, _ in found]
    summed = torch.tensor([one for _, _, one in found])
    sureness = unasked(len(spans))
    sureness[~summed] = sure([row for row, _, one in found if not one])
    return Spans(
        trunk_features(model, spans, progress).half(),
        tuple(shape for _, shape, _ in found),
        torch.tensor([row.length for row in spans], dtype=torch.int32),
        *(summed, sureness),
    )
