"""Fitting the router where only moments were kept of every task, and no row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, combinations

import torch
from torch import Tensor

from expertbank.backbones.forks import computing
from expertbank.errors import InputError, IntegrityError
from expertbank.records import ROW_SHAPES, RowShape
from expertbank.routing.calibration import best_temperature, held_out, rows_a_column
from expertbank.routing.columns import Entry, by_column, competing, members
from expertbank.routing.config import RouterConfig
from expertbank.routing.examples import Block, together
from expertbank.routing.gates import fitted_from_moments
from expertbank.routing.moments import BalancedMoments, Moments
from expertbank.routing.moments_file import NAME, MomentsFile
from expertbank.routing.projection import projection_of
from expertbank.routing.router import Router
from expertbank.routing.unknown import fit_unknown, threshold_of

DRAWN = 100
"""Most rows drawn a column to calibrate; fewer for many columns, so the cost stays linear."""


@dataclass(frozen=True, slots=True)
class TaskMoments(Entry):
    """One expert and how its moments are read; that is done once, and they are not kept."""

    read: Callable[[], MomentsFile]


@computing()
def fit_router_from_moments(
    tasks: Sequence[TaskMoments], config: RouterConfig, feature_spec_digest: str
) -> Router:
    """Fit a gate from moments; any order of tasks gives the same bytes.

    One task's moments are in memory at a time. The projection is folded into the gate, which
    reads plain features. There are no rows to calibrate on, so rows are drawn from the Gaussian
    that each column's moments describe. Real rows have heavier tails: more than 5% of known rows
    may be called unknown.

    Args:
        tasks: every member, at least one.
        config: which gate; one that is fitted from moments.
        feature_spec_digest: the spec the features were made under.

    Raises:
        InputError: a gate kind that needs rows.
        IntegrityError: moments of features of different widths.
    """
    fit = config.gate.fit_moments
    if fit is None:
        raise InputError(
            f"a {config.kind} gate is trained on features, and this bank keeps statistics only; "
            f"possible here: {', '.join(fitted_from_moments())}"
        )
    columns = by_column(tasks)
    each, every = rows_a_column(len(columns), least=2)
    each = min(DRAWN, each)
    generator = torch.Generator().manual_seed(0)
    dimensions: set[int] = set()
    reads: dict[str, tuple[RowShape, ...]] = {}
    sums, drawn, shapes = _Sums(), [], []
    for place, column in enumerate(columns):
        own: set[RowShape] = set()
        moments = None
        for task in column:
            file = task.read()
            dimensions.add(file.dimension)
            reads[task.id] = file.reads
            own |= set(file.reads)
            moments = file.moments if moments is None else moments + file.moments
        assert moments is not None
        if len(dimensions) > 1:
            raise IntegrityError(f"moments of features of several widths: {sorted(dimensions)}")
        sums.add(own, moments)
        count = each if place % every == 0 else 0
        drawn.append(moments.sample(count, generator) if count else moments.total[None][:0])
        # Drawn rows take turns among the shapes that their column's experts read.
        shapes.append([sorted(own)[row % len(own)] for row in range(count)])
    (dimension,) = dimensions
    blocks = sums.blocks()
    narrow = fit(blocks, config.settings)
    held = held_out(drawn, shapes, sums.reads)
    assert held is not None
    temperature = best_temperature(narrow, held) if len(columns) > 1 else 1.0
    unknown = fit_unknown(together(blocks), dimension, NAME)
    threshold = threshold_of(unknown.score_projected(held.features, held.allowed), held.targets)
    return Router(
        config.kind,
        members(columns, reads),
        feature_spec_digest,
        temperature,
        narrow.folded(projection_of(dimension, NAME)),
        replace(unknown, threshold=threshold),
    )


@dataclass(slots=True)
class _Sums:
    """Balanced sums of columns that come one by one, in their order.

    Which columns compete is known only when all have come. So there is a running sum for every
    set of shapes that may turn out to be a block: it takes the columns that read nothing else.

    Attributes:
        reads: per column the shapes its experts read.
        means: per column ``[width]``.
        counts: per column its rows.
        grams: by set of shapes, sum over its columns of the Gram matrix divided by the rows.
    """

    reads: list[set[RowShape]] = field(default_factory=list)
    means: list[Tensor] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    grams: dict[frozenset[RowShape], Tensor] = field(default_factory=dict)

    def add(self, reads: set[RowShape], moments: Moments) -> None:
        """Take in the next column."""
        self.reads.append(reads)
        self.means.append(moments.total / moments.count)
        self.counts.append(moments.count)
        sizes = range(1, len(ROW_SHAPES) + 1)
        for shapes in chain.from_iterable(combinations(ROW_SHAPES, size) for size in sizes):
            if reads <= set(shapes):
                gram = self.grams.setdefault(frozenset(shapes), torch.zeros_like(moments.gram))
                gram.add_(moments.gram, alpha=1 / moments.count)

    def blocks(self) -> list[Block]:
        """The blocks that there are, as one sum over their columns would have made them."""
        found = []
        for columns in competing(self.reads):
            gram = self.grams[frozenset().union(*(self.reads[column] for column in columns))]
            means, counts = zip(*((self.means[c], self.counts[c]) for c in columns), strict=True)
            found.append(Block(columns, BalancedMoments(list(means), list(counts), gram)))
        return found
