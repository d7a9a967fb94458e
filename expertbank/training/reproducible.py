"""The same bits from the same training, on devices whose quickest kernels do not give them.

On CUDA the backward pass of fused attention adds up in whatever order its blocks end. Asked to,
torch takes kernels that do not (``torch.use_deterministic_algorithms``), which are no slower for
training such as ours: see ``examples/benchmarks/devices.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

import torch

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


Setting = tuple[bool, bool, bool]
"""Whether torch is asked, whether it only warns, and whether it fills memory before its first use,
which is in vain here."""


class _Asking:
    """Asks torch, whose setting is the process's, for as long as any thread wants it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._wanted = 0
        self._before: Setting = (False, False, False)

    def __enter__(self) -> None:
        with self._lock:
            self._wanted += 1
            if self._wanted == 1:
                self._before = _setting()
                _set(True, False, False)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._wanted -= 1
            if not self._wanted:
                _set(*self._before)


_ASKING = _Asking()


def _setting() -> Setting:
    filling: Any = torch.utils.deterministic
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        filling.fill_uninitialized_memory,
    )


def _set(asked: bool, warn_only: bool, fill: bool) -> None:
    filling: Any = torch.utils.deterministic
    torch.use_deterministic_algorithms(asked, warn_only=warn_only)
    filling.fill_uninitialized_memory = fill
