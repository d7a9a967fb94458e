"""A store from outside the package: bytes in this process's memory, by the name in its URL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from expertbank.artifacts.store import (
    Stored,
    Unfinished,
    rehashed,
    require_digest,
    sha256_bytes,
)
from expertbank.artifacts.stores import STORES
from expertbank.errors import IntegrityError

HELD: dict[str, dict[str, tuple[bytes, float]]] = {}
"""Name of a store to its bytes and times by digest."""


class MemoryStore:
    """It derives from nothing of expertbank's, as a plugin need not."""

    def __init__(self, url: str) -> None:
        self.location = url
        self._held = HELD.setdefault(urlsplit(url).netloc, {})

    def where(self, digest: str) -> str:
        return f"{self.location}/{require_digest(digest)}"

    def put(self, data: bytes) -> str:
        digest = sha256_bytes(data)
        self._held[digest] = bytes(data), time.time()
        return digest

    def chunks(self, digest: str) -> Iterator[bytes]:
        data, _ = self._held.get(require_digest(digest), (None, 0.0))
        if data is None:
            raise IntegrityError(f"artifact {digest} is not in {self.location}")
        parts = (data[start : start + 1000] for start in range(0, len(data), 1000))
        return rehashed(digest, parts, self.where(digest))

    def get(self, digest: str) -> bytes:
        return b"".join(self.chunks(digest))

    def digests(self) -> Iterator[str]:
        return iter(sorted(self._held))

    def state(self, digest: str) -> Stored | None:
        data, modified = self._held.get(require_digest(digest), (None, 0.0))
        return None if data is None else Stored(len(data), modified)

    def delete(self, digest: str) -> None:
        self._held.pop(require_digest(digest), None)

    def unfinished(self) -> Iterator[Unfinished]:
        return iter(())

    def discard(self, unfinished: Unfinished) -> None:
        pass

    def probe(self) -> None:
        pass

    def age(self, digest: str, seconds: float) -> None:
        """Make bytes look as if they were put so long ago."""
        data, modified = self._held[digest]
        self._held[digest] = data, modified - seconds

    def damage(self, digest: str, data: bytes) -> None:
        """Put other bytes there."""
        self._held[digest] = data, self._held[digest][1]


STORES.register("memory", MemoryStore)
