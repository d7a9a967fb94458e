"""The running sums of the last fit, in the bank's folder: they only save time."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from expertbank.errors import IntegrityError
from expertbank.files.durable import write_whole
from expertbank.routing.sums import Sums
from expertbank.routing.sums_file import read_sums, write_sums

SUMS_CACHE = "router-sums.cache"


class SumsCache:
    """Sums as they were last left; absent, damaged or of another bank they are none.

    Two processes may write at once: each file is whole, and whichever stays is right, for sums say
    what they are of.

    Args:
        home: the bank's folder.
        feature_spec_digest: the bank's.
    """

    def __init__(self, home: Path, feature_spec_digest: str) -> None:
        self.path = home / SUMS_CACHE
        self._spec = feature_spec_digest

    def read(self) -> Sums | None:
        """The sums that are there."""
        try:
            return read_sums(self.path.read_bytes(), self._spec)
        except (OSError, IntegrityError, KeyError, IndexError, TypeError, ValueError):
            return None

    def write(self, sums: Sums) -> None:
        """Leave sums for the next fit; where that fails, it will add them up anew."""
        with suppress(OSError):
            write_whole(self.path, write_sums(sums, self._spec), 0o644)
