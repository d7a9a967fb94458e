"""The same bits from the same training, on devices whose quickest kernels do not give them.

On CUDA the backward pass of fused attention adds up in whatever order its blocks end. Asked to,
torch takes kernels that do not (``torch.use_deterministic_algorithms``), which are no slower for
training such as ours: see ``examples/benchmarks/devices.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from expertbank.process_wide import WhileAny

T = TypeVar("T")

HASTY = {"cuda"}
"""Kinds of devices whose kernels must be asked."""


def reproducibly(device: torch.device, compute: Callable[[], T]) -> T:
    """What ``compute`` gives, with kernels that give the same bits every time.

    Where the model needs one that torch does not have in such a form, it is computed once more
    with those that there are, and a warning says so.

    Args:
        device: where it computes.
        compute: called with this setting of the process; it must begin from its start when it is
            called again.
    """
    if device.type not in HASTY:
        return compute()
    try:
        with _ASKING:
            return compute()
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        why = str(error).partition(".")[0]
    warnings.warn(
        f"training on {device} again may give other bits: {why}", RuntimeWarning, stacklevel=2
    )
    return compute()


@contextmanager
def _asked() -> Iterator[None]:
    """Torch is asked, and fills no memory before its first use, which is in vain here."""
    filling: Any = torch.utils.deterministic
    asked = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = filling.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    filling.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(asked, warn_only=warn_only)
        filling.fill_uninitialized_memory = fill


_ASKING = WhileAny(_asked)
