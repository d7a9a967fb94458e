"""Running sums as bytes, so that the next fit goes on from them.

Only ever a copy of what the statistics say: whoever has none, or a damaged one, adds them up anew
and gets the same.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import astuple

import torch

from expertbank.errors import IntegrityError
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.records import ROW_SHAPES
from expertbank.routing.beside import Beside
from expertbank.routing.grid import Grid
from expertbank.routing.sums import Facts, Place, Sums
from expertbank.routing.sureness import Usual

FORMAT = 3
_DIGEST = hashlib.sha256().digest_size


def write_sums(sums: Sums, feature_spec_digest: str) -> bytes:
    """The file: the SHA-256 of what follows, and a safetensors file.

    The same sums are the same bytes, in whatever order they came.
    """
    names = sorted(sums.facts)
    facts = [sums.facts[name] for name in names]
    tensors = {
        "totals": torch.stack([one.total for one in facts]),
        **Beside.joined(one.rows for one in facts).tensors("row"),
        **Beside.joined(one.spans for one in facts).tensors("span"),
        **{f"gram.{'.'.join(read)}": gram for read, gram in sums.grams.items()},
    }
    metadata = {
        "format": FORMAT,
        "feature_spec_digest": feature_spec_digest,
        "grid": sums.grid.facts(),
        "facts": [
            [
                *(name, one.count, list(one.reads), one.available),
                *(len(one.rows), len(one.spans)),
                None if one.sureness is None else astuple(one.sureness),
            ]
            for name, one in zip(names, facts, strict=True)
        ],
        "placed": [
            [place.statistics, list(place.shapes), place.exponent, times]
            for place, times in sorted(sums.placed.items())
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
    said_of = metadata["facts"]
    rows = Beside.read(tensors, "row").parted([fact[4] for fact in said_of])
    spans = Beside.read(tensors, "span").parted([fact[5] for fact in said_of])
    facts = {
        name: Facts(
            *(count, tuple(reads), total, available, own, short),
            None if sureness is None else Usual(*sureness),
        )
        for (name, count, reads, available, _, _, sureness), total, own, short in zip(
            said_of, tensors["totals"], rows, spans, strict=True
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
