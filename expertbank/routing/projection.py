"""A fixed projection that needs no file: its signs are the bits of a hash."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

PROJECTIONS = {"unknown": 256, "stats": 512, "grid": 2304}
"""Names of the fixed projections and the width each projects to. ``stats`` is the one whose
moments banks of expertbank 0.1 keep that keep no features."""


@lru_cache(maxsize=4)
def signs(dimension: int, width: int, name: str) -> Tensor:
    """``[dimension, width]`` float32 of 1 and -1, the same everywhere, always.

    Signs are the bits of SHAKE-256 over ``name``, so they depend on no library's generator.
    Random signs keep inner products as well as Gaussian ones do (Achlioptas, "Database-friendly
    random projections", 2003).

    Args:
        dimension: width of what is projected.
        width: width it is projected to.
        name: what the projection is for; another name, another projection.
    """
    count = dimension * width
    text = f"expertbank {name} {dimension} {width}".encode()
    stream = hashlib.shake_256(text).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8), count=count)
    found: Tensor = torch.from_numpy(bits.reshape(dimension, width).astype(np.float32)) * 2 - 1
    return found


@lru_cache(maxsize=4)
def signs_on(device: torch.device, dimension: int, width: int, name: str) -> Tensor:
    """``signs`` on a device, copied there once."""
    return signs(dimension, width, name).to(device)


@lru_cache(maxsize=4)
def sign_projection(dimension: int, width: int, name: str) -> Tensor:
    """``[dimension, width]`` float64 of ``signs / √dimension``.

    A vector of root mean square 1 keeps about that size.
    """
    return signs(dimension, width, name).double().div_(dimension**0.5)


def projection_of(dimension: int, name: str) -> Tensor:
    """``[dimension, width]`` float64; narrow features are turned, not made wider."""
    return sign_projection(dimension, min(dimension, PROJECTIONS[name]), name)
