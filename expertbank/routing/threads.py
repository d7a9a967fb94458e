"""Arithmetic whose result does not depend on how many threads there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

_ONE_AT_A_TIME = RLock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes with one thread inside, and with as many as before afterwards.

    Sums and factorisations are divided among threads, and floating-point sums depend on how: with
    one thread they are the same wherever the same libraries run on the same kind of processor.
    """
    with _ONE_AT_A_TIME:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
