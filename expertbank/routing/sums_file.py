"""Running sums as bytes, so that the next fit goes on from them.

Only ever a copy of what the statistics say: whoever has none, or a damaged one, adds them up anew
and gets the same.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from expertbank.errors import IntegrityError
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.records import ROW_SHAPES, RowShape
from expertbank.routing.grid import Grid
from expertbank.routing.sums import Facts, Place, Sums

FORMAT = 2
_DIGEST = hashlib.sha256().digest_size


def write_sums(sums: Sums, feature_spec_digest: str) -> bytes:
    """The file: the SHA-256 of what follows, and a safetensors file."""
    names = list(sums.facts)
    facts = [sums.facts[name] for name in names]
    shapes = [ROW_SHAPES.index(shape) for one in facts for shape in one.row_shapes]
    spans = [ROW_SHAPES.index(shape) for one in facts for shape in one.span_shapes]
    tensors = {
        "totals": torch.stack([one.total for one in facts]),
        "rows": torch.cat([one.rows for one in facts]),
        "row_shapes": torch.tensor(shapes, dtype=torch.uint8),
        "row_tokens": torch.cat([one.row_tokens for one in facts]),
        "spans": torch.cat([one.spans for one in facts]),
        "span_shapes": torch.tensor(spans, dtype=torch.uint8),
        "span_tokens": torch.cat([one.span_tokens for one in facts]),
        **{f"gram.{'.'.join(read)}": gram for read, gram in sums.grams.items()},
    }
    metadata = {
        "format": FORMAT,
        "feature_spec_digest": feature_spec_digest,
        "grid": sums.grid.facts(),
        "facts": [
            [name, one.count, list(one.reads), one.available, len(one.rows), len(one.spans)]
            for name, one in zip(names, facts, strict=True)
        ],
        "placed": [
            [place.statistics, list(place.shapes), place.exponent, times]
            for place, times in sums.placed.items()
        ],
    }
    data = write_safetensors(tensors, metadata)
    return hashlib.sha256(data).digest() + data


def read_sums(data: bytes, feature_spec_digest: str) -> Sums:
    """Inverse of ``write_sums``.

    Raises:
        IntegrityError: damaged, of another format or feature spec.
    """
    data, said = data[_DIGEST:], data[:_DIGEST]
    if hashlib.sha256(data).digest() != said:
        raise IntegrityError("the running sums are damaged")
    tensors, metadata = read_safetensors(data, "running sums")
    if (metadata["format"], metadata["feature_spec_digest"]) != (FORMAT, feature_spec_digest):
        raise IntegrityError("the running sums are of another format or feature spec")
    rows = _parts(tensors, ("rows", "row_shapes", "row_tokens"), metadata["facts"], 4)
    spans = _parts(tensors, ("spans", "span_shapes", "span_tokens"), metadata["facts"], 5)
    facts = {
        name: Facts(count, tuple(reads), total, available, *own, *short)
        for (name, count, reads, available, *_), total, own, short in zip(
            metadata["facts"], tensors["totals"], rows, spans, strict=True
        )
    }
    placed: Counter[Place] = Counter()
    for name, shapes_read, power, times in metadata["placed"]:
        placed[Place(name, tuple(shapes_read), power)] = times
    grams = {
        tuple(s for s in ROW_SHAPES if s in name.split(".")[1:]): tensor
        for name, tensor in tensors.items()
        if name.startswith("gram.")
    }
    return Sums(Grid.read(metadata["grid"]), facts, placed, grams)


def _parts(
    tensors: Mapping[str, Tensor],
    names: tuple[str, str, str],
    facts: Sequence[Sequence[Any]],
    place: int,
) -> list[tuple[Tensor, tuple[RowShape, ...], Tensor]]:
    """Rows, shapes and lengths by expert; how many each has stands at ``place`` of its facts."""
    sizes = [fact[place] for fact in facts]
    values, codes, tokens = (torch.split(tensors[name], sizes) for name in names)
    shapes = [tuple(ROW_SHAPES[code] for code in own.tolist()) for own in codes]
    return list(zip(values, shapes, tokens, strict=True))
