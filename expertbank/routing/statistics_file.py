"""Statistics of one expert's training rows as safetensors bytes, checked when they are read.

Size: ``4 · width · (width + 1) / 2`` bytes and a little, 10.6 MB for 2,304 numbers a row, however
many rows there were; eight bytes a number in place of four from 133,000 rows on.

What they tell of the rows: sums of a single row are that row, and sums of fewer rows than a row
has numbers can be taken apart into them, or nearly. Nobody's text is in them, and they are no
guarantee in the sense of differential privacy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from expertbank.errors import MALFORMED, IntegrityError
from expertbank.files.header import read_header
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.records import ROW_SHAPES
from expertbank.routing.beside import Beside
from expertbank.routing.grid import LARGEST, Grid
from expertbank.routing.statistics import (
    MOMENTS,
    Statistics,
    diagonal_places,
    of_moments,
    root_of,
)
from expertbank.routing.sureness import read_guess

FORMAT = 2
"""Format 1 are float64 moments of 512 projected features, which ``--keep stats`` kept once."""
MOST_ROWS = 2**24
"""With more, sums over many tasks would not fit into 64 bits."""
MOMENTS_LARGEST, MOMENTS_ROWS = 2**10, 2**20
"""Most steps that a projected feature of format 1 is from zero, and most rows of them."""


def is_statistics(data: bytes, where: str) -> bool:
    """Whether a file in place of features holds statistics.

    Raises:
        IntegrityError: not a safetensors file.
    """
    return "gram" in read_header(data, where).shapes


def write_statistics(statistics: Statistics) -> bytes:
    """One safetensors file; equal statistics give equal bytes."""
    small = _size(statistics.upper) < 2**31
    metadata = {
        "format": FORMAT,
        "feature_spec_digest": statistics.feature_spec_digest,
        "grid": statistics.grid.facts(),
        "shape_counts": list(statistics.shape_counts),
        "count": statistics.count,
        "span_count": statistics.span_count,
        **({} if statistics.guess is None else {"guess": statistics.guess}),
    }
    tensors = {
        "total": statistics.total,
        "gram": statistics.upper.to(torch.int32 if small else torch.int64),
        **statistics.rows.tensors("row"),
        **statistics.spans.tensors("span"),
    }
    return write_safetensors(tensors, metadata)


def read_statistics(data: bytes, where: str) -> Statistics:
    """Inverse of ``write_statistics``; moments of format 1 are put on the grid.

    Raises:
        IntegrityError: not such a file, or numbers that no rows can have; it says which.
    """
    tensors, metadata = read_safetensors(data, where)
    try:
        if metadata["format"] == 1:
            found, largest = _moments(tensors, metadata, where), MOMENTS_LARGEST
        elif metadata["format"] == FORMAT:
            found, largest = _statistics(tensors, metadata), LARGEST
        else:
            raise IntegrityError(f"{where}: statistics format {metadata['format']} is not known")
    except MALFORMED as error:
        raise IntegrityError(f"{where}: not a statistics file ({error!r})") from error
    wrong = _wrong(found, largest)
    if wrong:
        raise IntegrityError(f"{where}: these are statistics of no rows: {wrong}")
    return found


def require_positive(statistics: Statistics, where: str) -> None:
    """Refuse sums whose covariance has a negative direction; takes a fraction of a second.

    Raises:
        IntegrityError: it has.
    """
    try:
        root_of(statistics)
    except IntegrityError as error:
        raise IntegrityError(f"{where}: {error}") from error


def _statistics(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Statistics:
    if any(tensor.is_floating_point() for tensor in tensors.values()):
        raise ValueError("sums are whole numbers")
    count, span_count = _counts([facts["count"], facts["span_count"]])
    return Statistics(
        Grid.read(facts["grid"]),
        str(facts["feature_spec_digest"]),
        _counts(facts["shape_counts"]),
        count,
        span_count,
        tensors["total"],
        tensors["gram"],
        Beside.read(tensors, "row"),
        Beside.read(tensors, "span"),
        read_guess(facts),
    )


def _moments(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], where: str) -> Statistics:
    total, gram, counts = tensors["total"], tensors["gram"], _counts(facts["shape_counts"])
    grid = Grid.read({"dimension": facts["dimension"], "projection": MOMENTS})
    sound = total.shape == (grid.width,) and gram.shape == (grid.width * (grid.width + 1) // 2,)
    sound = sound and 0 < sum(counts) <= MOMENTS_ROWS
    for tensor in (total, gram):
        most = MOMENTS_LARGEST**2 * MOMENTS_ROWS  # whole numbers of it do not wrap
        sound = sound and tensor.dtype == torch.float64 and bool((tensor.abs() <= most).all())
    if not sound:
        raise IntegrityError(f"{where}: these numbers are no moments of {grid.dimension} features")
    return of_moments(total, gram, counts, grid.dimension, str(facts["feature_spec_digest"]))


def _counts(numbers: Any) -> tuple[int, ...]:
    if not all(type(number) is int for number in numbers):
        raise ValueError(f"counts are whole numbers, not {numbers}")
    return tuple(numbers)


def _size(numbers: Tensor) -> int:
    """The largest, its sign aside; the least int64 has no positive twin."""
    return max(int(numbers.max()), -int(numbers.min()))


def _wrong(found: Statistics, largest: int) -> str:
    """What no rows can have, in words; empty if nothing was seen."""
    width, count, rows = found.width, found.count, found.rows
    if found.total.shape != (width,) or found.upper.shape != (width * (width + 1) // 2,):
        return f"sums of another width than {width}"
    if found.total.dtype != torch.int64 or found.upper.dtype not in (torch.int32, torch.int64):
        return "sums of another type"
    counts = found.shape_counts
    if len(counts) != len(ROW_SHAPES) or min(counts) < 0:
        return f"counts {counts}"
    whole = count - found.span_count
    if not 0 < whole <= found.n_train <= MOST_ROWS or not 0 <= found.span_count <= found.n_train:
        return f"{whole} rows summed of {found.n_train}, and {found.span_count} spans"
    for name, beside in (("rows", rows), ("spans", found.spans)):
        if wrong := beside.wrong(width):
            return f"{name} beside them {wrong}"
    if len(rows) not in (0, found.n_train - whole):
        return f"{len(rows)} rows beside them, {found.n_train - whole} sat out"
    if any(rows.shapes.count(s) > n for s, n in zip(ROW_SHAPES, counts, strict=True)):
        return "rows beside them of shapes that were not counted"
    total, upper = found.total, found.upper.long()
    if _size(total) > largest * count or _size(upper) > largest**2 * count:
        return f"sums that are too large for {count} rows"
    diagonal = upper[diagonal_places(width)]
    if int(diagonal.min()) < 0:
        return "a sum of squares below zero"
    if bool((diagonal * count < total * total).any()):
        return "a sum of squares below the square of the sum divided by the count"
    return ""
