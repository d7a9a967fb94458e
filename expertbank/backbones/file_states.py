"""What a backbone's files looked like when they were hashed, and whether that is still proof.

A digest that was worked out earlier may stand for the files only where the filesystem shows that
none of them changed. The time of the last change of content proves nothing: anyone can set it.
The time of the last change of anything (ctime) cannot be set, but it moves in steps: a change in
the same step as the one before leaves it as it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expertbank.files.mounts import keeps_change_times

STEP, WHOLE_SECONDS = 100_000_000, 2_000_000_000
"""Nanoseconds after which a further change shows: Linux's clock for files moves every 1 to 10 ms;
filesystems that keep no fractions of a second step by one or two."""

States = list[list[Any]]
"""For each file its name, path, device, inode, size, and the times of the last change of its
content and of anything, in ns: JSON-ready."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The files as they were when hashing them began.

    Attributes:
        files: their states.
        at: when that was, in ns since 1970.
    """

    files: States
    at: int

    @property
    def is_proof(self) -> bool:
        """Whether equal states, found later, mean equal bytes."""
        settled = all(self.at - state[-1] >= _step(state[-1]) for state in self.files)
        return settled and all(
            keeps_change_times(folder) for folder in {Path(state[1]).parent for state in self.files}
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {"files": self.files, "at": self.at}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Seen:
        """Inverse of ``to_dict``.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        return cls([list(state) for state in value["files"]], int(value["at"]))


def states_of(files: Iterable[Path]) -> States:
    """The states of ``files``; none is read."""
    found = []
    for file in files:
        real = file.resolve()
        state = real.stat()
        numbers = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        found.append([file.name, str(real), *numbers])
    return found


def look(files: Iterable[Path]) -> Seen:
    """The files as they are; one that changed this very moment is waited for, a tenth of a second.

    So the states of a backbone that was just copied are proof as well.
    """
    states = states_of(files)
    now = time.time_ns()
    newest = max((state[-1] for state in states), default=0)
    if 0 <= now - newest < STEP:
        time.sleep((newest + STEP - now) / 1e9)
    # Taken again, for what changed meanwhile shows now.
    return Seen(states_of(files), time.time_ns())


def _step(changed: int) -> int:
    return STEP if changed % 1_000_000_000 else WHOLE_SECONDS
