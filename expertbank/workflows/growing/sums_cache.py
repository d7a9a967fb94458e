"""The running sums of the last fit, in the bank's folder: they only save time. Needs no torch."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from expertbank.errors import MALFORMED, IntegrityError
from expertbank.files.durable import write_whole
from expertbank.files.header import read_header

if TYPE_CHECKING:
    from expertbank.routing.sums import Sums

SUMS_CACHE = "router-sums.cache"
DIGEST = 32
"""Bytes of SHA-256 before the safetensors file."""


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
        from expertbank.routing.sums_file import read_sums

        try:
            return read_sums(self.path.read_bytes(), self._spec)
        except (OSError, IntegrityError, *MALFORMED):
            return None

    def write(self, sums: Sums) -> None:
        """Leave sums for the next fit; where that fails, it will add them up anew."""
        from expertbank.routing.sums_file import write_sums

        with suppress(OSError):
            write_whole(self.path, write_sums(sums, self._spec), 0o644)


def drop_sums_of(home: Path, statistics: Collection[str]) -> None:
    """Delete the sums if any of these digests is in them, or if what is in them cannot be told.

    Raises:
        OSError: they cannot be deleted.
    """
    path = home / SUMS_CACHE
    if not path.is_file():
        return
    with suppress(FileNotFoundError):
        try:
            facts = read_header(path.read_bytes()[DIGEST:], SUMS_CACHE).metadata["facts"]
            inside = {str(fact[0]) for fact in facts}
        except (IntegrityError, KeyError, IndexError, TypeError):
            inside = set(statistics)
        if inside & set(statistics):
            path.unlink()
