"""Settings that a library has once for the whole process, changed for a while by several threads.

Each thread that remembered a setting, changed it and put it back on its own would put back what
another had made of it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Lock


class WhileAny:
    """A change that lasts as long as any thread is inside.

    The first thread that enters makes it, and the last one that leaves takes it back. A thread may
    enter again while it is inside.

    Args:
        change: gives what makes the change when it is entered, and takes it back when it is left.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[object]]) -> None:
        self._change = change
        self._lock = Lock()
        self._inside = 0
        self._made: AbstractContextManager[object] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                made = self._change()
                made.__enter__()
                self._made = made
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._made is not None:
                made, self._made = self._made, None
                made.__exit__(None, None, None)
