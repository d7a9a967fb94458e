"""Torch's threads do not survive a fork: a child that waits for them waits for ever.

``computing`` stands around everything that may use them. In a child of a process that computed with
several threads it refuses to begin, unless the child computes with one (as the workers of torch's
``DataLoader`` do), which needs no other. In a child that was forked while another thread computed
or loaded, it always refuses: what that thread had locked stays locked. Loading starts no threads of
torch, so a child may use what its parent has only loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

from expertbank.errors import ExpertBankError

ADVICE = (
    "compute only after the fork: gunicorn without --preload, or with the model loaded, and not "
    'used, before it; multiprocessing with the start method "spawn"'
)


class _Process:
    """What this process did, and what it came from."""

    def __init__(self) -> None:
        self.threaded = False
        self.busy: set[int] = set()
        self.lost_threads = False
        self.lost_locks = False

    def forked(self) -> None:
        """Turn into the child's state, in the child."""
        self.lost_locks |= bool(self.busy - {get_ident()})
        self.lost_threads |= self.threaded
        self.busy.clear()


_HERE = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_HERE.forked)


def require_threads() -> None:
    """Refuse to compute where torch would wait for threads that there are not.

    Raises:
        ExpertBankError: this process is a fork of one that has computed.
    """
    if _HERE.lost_locks:
        raise ExpertBankError(
            "this process was forked while another thread of its parent was computing, and what "
            f"that had locked stays locked: {ADVICE}"
        )
    if _HERE.lost_threads and _threads() > 1:
        raise ExpertBankError(
            "this process was forked from one that had predicted or trained, and torch would wait "
            f"for ever for threads that stayed there: {ADVICE}; or call torch.set_num_threads(1) "
            "in this process first"
        )


@contextmanager
def busy() -> Iterator[None]:
    """Around what holds locks for long: a child that is forked meanwhile will not compute."""
    own = get_ident()
    outer = own in _HERE.busy
    _HERE.busy.add(own)
    try:
        yield
    finally:
        if not outer:
            _HERE.busy.discard(own)


@contextmanager
def computing() -> Iterator[None]:
    """Around what may use torch's threads; ``busy`` too.

    Raises:
        ExpertBankError: as ``require_threads``.
    """
    require_threads()
    _HERE.threaded |= _threads() > 1
    with busy():
        yield


def _threads() -> int:
    import torch

    return torch.get_num_threads()
