"""Exact running sums over the statistics of all members, from which a router is solved.

A column (a task, or a group) of ``n`` rows weighs ``2^-round(log2 n)``: within a factor of the
square root of two of equal weight, and the weighted sums stay whole numbers. So the sums of the
last fit plus one task's are, to the bit, those of all tasks added anew, and a task's sums can be
taken out again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from expertbank.errors import IntegrityError
from expertbank.records import ROW_SHAPES, RowShape
from expertbank.routing.beside import Beside
from expertbank.routing.calibration import rows_a_column
from expertbank.routing.grid import STEP, Grid
from expertbank.routing.moments import BalancedMoments
from expertbank.routing.statistics import FEWEST, Statistics, drawn, square
from expertbank.routing.statistics_file import write_statistics
from expertbank.routing.sureness import UNASKED, Usual, unasked

UNIT = 24
"""Weighted sums are counted in units of ``2^-UNIT``; no column has more than ``2^UNIT`` rows."""
SPANS = 6
"""Most spans of one row."""
ASKED = 15
"""Fewest rows that tell how sure an expert is of known ones."""
DRAWN = 100
"""Most rows drawn for an expert none of whose rows are kept."""

Shapes = tuple[RowShape, ...]
Read = Callable[[str], Statistics]


class Place(NamedTuple):
    """How one expert's statistics are in the sums: named by a digest, under whose weight."""

    statistics: str
    shapes: Shapes
    exponent: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What a fit needs of one expert's statistics beside their products.

    Attributes:
        count: rows in the sums.
        reads: the shapes of row that the expert was trained on.
        total: ``[width]`` int64 sum of rows.
        available: rows there are to calibrate on, kept or drawn.
        rows: the first of them.
        spans: short spans of these.
        sureness: of the expert of all rows that sat out; ``None`` where it was asked of too few, or
            says the same of all.
    """

    count: int
    reads: Shapes
    total: Tensor
    available: int
    rows: Beside
    spans: Beside
    sureness: Usual | None


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums, and what they are of.

    Attributes:
        grid: the numbers of a row that they are of.
        facts: by digest of statistics.
        placed: what is in the sums, and how often.
        grams: by the set of shapes that a column reads, ``[triangle]`` int64.
    """

    grid: Grid
    facts: Mapping[str, Facts]
    placed: Counter[Place]
    grams: Mapping[Shapes, Tensor]

    def moments(self, columns: Sequence[Sequence[str]]) -> BalancedMoments:
        """Of these of the columns, given by their statistics: all whose shapes are these columns'.

        The only floating-point sums are here: over the columns' means, in the columns' order.
        """
        facts = [[self.facts[name] for name in column] for column in columns]
        shapes = {shape for own in facts for one in own for shape in one.reads}
        counts = [sum(one.count for one in own) for own in facts]
        totals = torch.stack([sum_of(one.total for one in own) for own in facts]).double()
        sizes = torch.tensor(counts, dtype=torch.float64).unsqueeze(1)
        weights = torch.tensor([2.0 ** -exponent(n) for n in counts], dtype=torch.float64)
        upper = sum_of(gram for read, gram in self.grams.items() if set(read) <= shapes)
        scatter = square(upper, self.grid.width).double().mul_(STEP**2 * 2.0**-UNIT)
        roots = totals * (weights.unsqueeze(1) / sizes).sqrt() * STEP
        scatter.addmm_(roots.T, roots, alpha=-1)
        weight = float((weights * sizes.squeeze(1)).sum())
        return BalancedMoments(totals / sizes * STEP, scatter, weight)

    def near(self, columns: Sequence[Sequence[str]]) -> bool:
        """Whether going on from here reads less than adding up these columns anew."""
        wanted = {name for column in columns for name in column}
        return len(self.facts.keys() ^ wanted) < len(wanted)


def exponent(count: int) -> int:
    """``round(log2 count)``, by whole numbers."""
    return (count * count).bit_length() // 2


def sum_of(tensors: Iterable[Tensor]) -> Tensor:
    """Of at least one, alike."""
    first, *others = tensors
    return sum(others, first)


def summed(columns: Sequence[Sequence[str]], read: Read, before: Sums | None = None) -> Sums:
    """The sums over the columns' statistics, each given by the digests of its experts' statistics.

    What is in ``before`` already is not read again; what is there and should not be is taken out.
    The result is the same to the bit without it.

    Args:
        columns: in their order.
        read: reads statistics by digest, one at a time in memory but for those of one column.
        before: the sums of an earlier fit.

    Raises:
        IntegrityError: statistics of different grids, or what ``read`` raises.
    """
    each, every = rows_a_column(len(columns))
    grid, facts = (before.grid, dict(before.facts)) if before else (None, {})
    grams = _Grams(before.grams if before else {})
    left = Counter(before.placed) if before else Counter()
    placed: Counter[Place] = Counter()
    for column in columns:
        brings = brought(column, each, every)
        found: dict[str, Statistics] = {}
        for name in column:
            known = facts.get(name)
            if known is None or len(known.rows) < min(brings, known.available):
                found[name] = read(name)
                grid = grid or found[name].grid
                _require_same(grid, found[name].grid, name)
                facts[name] = facts_of(found[name], brings)
        own = [facts[name] for name in column]
        shapes = tuple(s for s in ROW_SHAPES if any(s in one.reads for one in own))
        power = exponent(sum(one.count for one in own))
        for name in column:
            place = Place(name, shapes, power)
            placed[place] += 1
            if left[place] > 0:
                left[place] -= 1
            else:
                grams.move(place, found.get(name) or read(name), 1)
    for place, times in left.items():
        for _ in range(times):
            grams.move(place, read(place.statistics), -1)
    assert grid is not None
    wanted = {name for column in columns for name in column}
    used = {place.shapes for place in placed}
    return Sums(
        grid,
        {name: one for name, one in facts.items() if name in wanted},
        placed,
        {shapes: gram for shapes, gram in grams.sums.items() if shapes in used},
    )


def brought(column: Sequence[str], each: int, every: int) -> int:
    """Rows that each expert of a column brings to calibrate on.

    Which columns bring any, their digests decide, so that it stays when others come and go.
    """
    chosen = int(hashlib.sha256(column[0].encode()).hexdigest()[:8], 16) % every == 0
    return -(-each // len(column)) if chosen else 0


def facts_of(statistics: Statistics, brings: int) -> Facts:
    """What stays in memory of statistics, with the first rows to calibrate on."""
    rows, reads = statistics.rows, statistics.reads
    available = len(rows)
    if available == 0 and statistics.n_train >= FEWEST:
        # Drawn from the sums alone, so that those of a bank that keeps rows give the same. Real
        # rows have heavier tails: more of them may be called unknown. They take turns in shape.
        available = DRAWN
        if brings:
            plain = write_statistics(statistics.without_rows())
            steps = drawn(statistics, DRAWN, hashlib.sha256(plain).digest())
            shapes = tuple(reads[place % len(reads)] for place in range(DRAWN))
            nobody = torch.zeros(DRAWN, dtype=torch.int32)
            rows = Beside(steps, shapes, nobody, unasked(DRAWN))
    return Facts(
        *(statistics.count, reads, statistics.total, available),
        *(rows.first(brings), statistics.spans.first(SPANS * brings)),
        usual(statistics),
    )


def usual(statistics: Statistics) -> Usual | None:
    """How sure the expert is of rows that sat out, if enough were asked and not all are alike."""
    steps = statistics.rows.sureness
    asked = steps[steps != UNASKED].double()
    deviation = float(asked.std(correction=0)) if len(asked) >= ASKED else 0.0
    return Usual(float(asked.mean()), deviation, statistics.guess) if deviation > 0 else None


class _Grams:
    """Sums of products that statistics are added to and taken out of; others' stay untouched."""

    def __init__(self, before: Mapping[Shapes, Tensor]) -> None:
        self.sums = dict(before)
        self._own: set[Shapes] = set()

    def move(self, place: Place, statistics: Statistics, sign: int) -> None:
        """Add one expert's products to the sum that they belong to, or take them out."""
        if place.exponent > UNIT:
            raise IntegrityError(f"a column has more than 2^{UNIT} rows; the sums cannot hold it")
        upper, shapes = statistics.upper.long(), place.shapes
        known = self.sums.get(shapes)
        if known is None:
            known = torch.zeros_like(upper)
        factor = sign * 2 ** (UNIT - place.exponent)
        if shapes in self._own:
            known.add_(upper, alpha=factor)
        else:
            self.sums[shapes] = known.add(upper, alpha=factor)
            self._own.add(shapes)


def _require_same(grid: Grid, other: Grid, name: str) -> None:
    if grid != other:
        raise IntegrityError(
            f"statistics {name[:12]} are of {other.width} of {other.dimension} features, others "
            f"of {grid.width} of {grid.dimension}"
        )
