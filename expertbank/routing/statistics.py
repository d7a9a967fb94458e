"""What the router is fitted from: exact statistics of one expert's training rows.

Rows are whole numbers (``grid``), so counts, sums and sums of products are whole numbers too, and
adding them up gives the same in any order. A few rows sit out of the sums for good: a router is
calibrated on them, without a second fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from expertbank.errors import IntegrityError
from expertbank.records import ROW_SHAPES, RowShape
from expertbank.routing.beside import Beside
from expertbank.routing.feature_file import Spans
from expertbank.routing.grid import LARGEST, STEP, Grid
from expertbank.routing.sureness import unasked
from expertbank.routing.threads import one_thread

MOST_OUT, PART_OUT, FEWEST = 128, 16, 10
"""At most so many rows sit out, about one in so many, and none where a task has fewer rows."""
LEAST_OUT, LARGEST_PART = 20, 5
"""Of small tasks so many sit out, but at most one in so many."""
MOMENTS = "stats"
"""The projection of moments that banks of expertbank 0.1 kept."""
SPARE = (1 / 12, 2.0)
"""What is added to variances, in steps squared: what rounding to the grid adds by itself, and for
moments that were rounded as sums, what leaves them positive. Features have about a thousand."""
CHUNK = 4096
"""Rows whose products are summed at a time."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Sums over one expert's training rows, and the rows that sat out of them.

    Attributes:
        grid: the numbers of a row that they are of.
        feature_spec_digest: the spec the features were made under.
        shape_counts: training rows that bring each of ``ROW_SHAPES``, those that sat out too.
        count: rows in the sums, short spans of rows among them.
        span_count: how many of them are spans.
        total: ``[width]`` int64 sum of rows, in steps of the grid.
        upper: ``[width (width + 1) / 2]`` int64 or int32: the upper triangle of the sum of their
            outer products, row by row.
        rows: those that sat out; none where none is kept.
        spans: short spans of these.
        guess: how sure of a row whoever guesses its answer is, in steps; ``None`` where nobody
            knows.
    """

    grid: Grid
    feature_spec_digest: str
    shape_counts: tuple[int, ...]
    count: int
    span_count: int
    total: Tensor
    upper: Tensor
    rows: Beside
    spans: Beside
    guess: int | None = None

    @classmethod
    def of(
        cls,
        features: Tensor,
        shapes: Sequence[RowShape],
        feature_spec_digest: str,
        grid: Grid | None = None,
        tokens: Tensor | None = None,
        spans: Spans | None = None,
        sureness: Tensor | None = None,
        guess: int | None = None,
    ) -> Statistics:
        """Of ``features [rows, dimension]``, at least one row.

        Args:
            features: plain features, or such as are on the grid already.
            shapes: per row what it brings.
            feature_spec_digest: the spec they were made under.
            grid: the grid of the bank's other statistics; default what suits the width.
            tokens: ``[rows]`` int32 tokens of each row's longest sequence, where they are known.
            spans: of some of the rows.
            sureness: ``[rows that sit out]`` int16 of the expert's answers to them, if it was
                asked.
            guess: how sure of a row whoever guesses is, in steps.

        Raises:
            IntegrityError: a feature is not finite, or there is no row; or another number of
                answers than of rows that sit out.
        """
        if len(features) == 0 or not bool(torch.isfinite(features).all()):
            raise IntegrityError("features to sum up are none, or not finite")
        grid = grid or Grid.suiting(features.shape[1])
        steps, out = grid.steps(features), sits_out(len(features))
        spans = spans or Spans.none(features.shape[1])
        short, beside = grid.steps(spans.features), ~spans.summed
        total, gram = sums_of(torch.cat([steps[~out], short[spans.summed]]))
        upper = gram[tuple(torch.triu_indices(grid.width, grid.width))]
        held = tuple(shape for shape, taken in zip(shapes, out.tolist(), strict=True) if taken)
        counts = tuple(list(shapes).count(shape) for shape in ROW_SHAPES)
        span_count = int(spans.summed.sum())
        count = int((~out).sum()) + span_count
        if tokens is None or len(tokens) == 0:
            tokens = torch.zeros(len(out), dtype=torch.int32)
        left = tuple(s for s, kept in zip(spans.shapes, beside.tolist(), strict=True) if kept)
        sureness = unasked(len(held)) if sureness is None else sureness
        if len(sureness) != len(held):
            raise IntegrityError(f"{len(sureness)} answers to {len(held)} rows that sit out")
        return cls(
            *(grid, feature_spec_digest, counts, count, span_count, total, upper),
            Beside(steps[out], held, tokens[out], sureness),
            Beside(short[beside], left, spans.tokens[beside], spans.sureness[beside]),
            guess,
        )

    @property
    def reads(self) -> tuple[RowShape, ...]:
        """The shapes of row that the expert was trained on."""
        return tuple(s for s, n in zip(ROW_SHAPES, self.shape_counts, strict=True) if n)

    @property
    def width(self) -> int:
        """Numbers a row."""
        return self.grid.width

    @property
    def n_train(self) -> int:
        """Training rows, those that sat out too."""
        return sum(self.shape_counts)

    @property
    def n_eval(self) -> int:
        """None: no evaluation row is kept in them."""
        return 0

    def without_rows(self) -> Statistics:
        """The sums alone."""
        none = Beside.none(self.width)
        return replace(self, rows=none, spans=none, guess=None)


def sits_out(rows: int) -> Tensor:
    """``[rows]`` bool: which of a task's training rows sit out of its sums."""
    out = max(min(LEAST_OUT, rows // LARGEST_PART), min(MOST_OUT, rows // PART_OUT))
    places = torch.arange(rows + 1) * (out if rows >= FEWEST else 0) // rows
    return places.diff() > 0  # evenly among the others


def sums_of(steps: Tensor) -> tuple[Tensor, Tensor]:
    """Sum ``[width]`` and sum of outer products ``[width, width]``, int64, of int8 rows.

    Computed in double precision, in which whole numbers up to 2^53 are exact in any order.
    """
    width = steps.shape[1]
    total = torch.zeros(width, dtype=torch.float64)
    gram = torch.zeros(width, width, dtype=torch.float64)
    for part in torch.split(steps, CHUNK):
        # NumPy sees a matrix times itself and computes one triangle: a third less time.
        wide = part.double().numpy()
        total += torch.from_numpy(wide.sum(0))
        gram += torch.from_numpy(wide.T @ wide)
    return total.long(), gram.long()


def square(upper: Tensor, width: int) -> Tensor:
    """``[width, width]`` of an upper triangle, in its type."""
    full = upper.new_zeros(width, width)
    for row, part in enumerate(torch.split(upper, list(range(width, 0, -1)))):
        full[row, row:] = part
        full[row:, row] = part
    return full


def drawn(statistics: Statistics, rows: int, seed: bytes) -> Tensor:
    """``[rows, width]`` int8 from the Gaussian of these sums, for what needs rows where none is.

    Args:
        statistics: the sums.
        rows: how many.
        seed: the same bytes, the same rows, whatever the number of threads.

    Raises:
        IntegrityError: the sums are of no rows: their covariance has a negative direction.
    """
    generator = torch.Generator().manual_seed(int.from_bytes(seed[:7], "big"))
    noise = torch.randn(rows, statistics.width, generator=generator, dtype=torch.float64)
    with one_thread():
        found = statistics.total / statistics.count + noise @ root_of(statistics).T
    return found.round().clamp(-LARGEST, LARGEST).to(torch.int8)


def root_of(statistics: Statistics) -> Tensor:
    """``L`` with ``L Lᵀ`` the covariance in steps, and a little on its diagonal.

    Raises:
        IntegrityError: the covariance has a negative direction.
    """
    mean = statistics.total.double() / statistics.count
    covariance = square(statistics.upper, statistics.width).double() / statistics.count
    covariance -= torch.outer(mean, mean)
    # Few rows leave it singular; moments of before were rounded afterwards, which may turn it.
    more = 0.0
    for spare in SPARE if statistics.grid.projection == MOMENTS else SPARE[:1]:
        covariance.diagonal().add_(spare - more)
        root: Tensor
        root, failed = torch.linalg.cholesky_ex(covariance)
        if not bool(failed):
            return root
        more = spare
    raise IntegrityError("these sums are of no rows: their covariance is not positive")


def of_moments(
    total: Tensor, upper: Tensor, counts: tuple[int, ...], dimension: int, spec: str
) -> Statistics:
    """Moments that a bank of expertbank 0.1 kept in place of rows, rounded to the grid once.

    Args:
        total: ``[width]`` float64 sum of features that went through the projection ``MOMENTS``.
        upper: upper triangle of the sum of their outer products, float64.
        counts: rows of each shape.
        dimension: width of plain features.
        spec: digest of their feature spec.
    """
    width, count = len(total), sum(counts)
    sums = (total / STEP).round().long()
    # What is rounded is the scatter about the mean: rounding sums and products apart would put
    # the mean's error into every covariance, and could turn it negative.
    rows, columns = torch.triu_indices(width, width)
    before, after = total / STEP, sums.double()
    scatter = upper / STEP**2 - before[rows] * before[columns] / count
    products = (scatter + after[rows] * after[columns] / count).round().long()
    places = diagonal_places(width)
    least = -(-(sums * sums) // count)
    products[places] = products[places].maximum(least)
    grid = Grid(dimension, MOMENTS)
    none = Beside.none(width)
    return Statistics(grid, spec, counts, count, 0, sums, products, none, none)


def diagonal_places(width: int) -> Tensor:
    """``[width]`` places of the diagonal in an upper triangle, row by row."""
    rows = torch.arange(width)
    return rows * width - rows * (rows - 1) // 2
