"""Copies of a distant store's artifacts on this machine: few enough, and checked when read.

The folder is shared by processes and threads. A copy is made whole under its digest; one that is
not what its digest says is thrown away and read from the store again, so a cache can cost time
and never truth. It may be deleted whenever nothing reads it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock

from expertbank.artifacts.claims import claim, owner_of
from expertbank.artifacts.store import (
    ArtifactStore,
    Stored,
    Unfinished,
    require_digest,
    sha256_bytes,
)
from expertbank.files.durable import write_whole

CACHE_BYTES = 4 << 30
"""Most bytes of copies that are kept, unless the caller says otherwise."""
_SLICE = 16
"""A process looks through the folder whenever it added a sixteenth of what may be kept."""
_ABANDONED = 3600.0
"""After how many seconds a temporary file is taken for one of a killed process."""


class CachedStore(ArtifactStore):
    """A store whose ``get`` keeps copies; everything else is the store's own.

    ``chunks`` is what ``verify`` reads by, so it always asks the store.

    Args:
        store: the distant one.
        folder: for the copies; made when first needed. One that cannot be written is not used.
        limit: most bytes to keep; 0 keeps none.
    """

    def __init__(self, store: ArtifactStore, folder: Path, limit: int = CACHE_BYTES) -> None:
        self.inner = store
        self.folder = folder
        self.limit = limit
        self._added = limit  # the first copy looks what is there
        self._lock = Lock()

    def get(self, digest: str) -> bytes:
        """The bytes named ``digest``: a copy, if there is a whole one, else the store's."""
        copy = self.folder / require_digest(digest)[:2] / digest
        with suppress(OSError):
            data = copy.read_bytes()
            if sha256_bytes(data) == digest:
                with suppress(OSError):
                    os.utime(copy)  # those that nobody reads go first
                return data
            copy.unlink(missing_ok=True)
        data = self.inner.get(digest)
        if len(data) <= self.limit:
            with suppress(OSError):
                copy.parent.mkdir(parents=True, exist_ok=True)
                write_whole(copy, data, 0o600)
                self._make_room(len(data))
        return data

    def delete(self, digest: str) -> None:
        """Let go of the bytes named ``digest``, there and here."""
        self.inner.delete(digest)
        with suppress(OSError):
            (self.folder / require_digest(digest)[:2] / digest).unlink(missing_ok=True)

    def _make_room(self, added: int) -> None:
        """Delete what was not read for longest, until what is left is below the limit."""
        with self._lock:
            self._added += added
            if self._added < self.limit // _SLICE:
                return
            self._added = 0
            copies = sorted(self._copies())
            total = sum(size for _, size, _ in copies)
            for _, size, path in copies:
                if total <= self.limit:
                    break
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                    total -= size

    def _copies(self) -> Iterator[tuple[float, int, Path]]:
        """When each was last read, its size and where it is."""
        for path in self.folder.glob("??/*"):
            with suppress(OSError):
                found = path.stat()
                if path.name.startswith(".tmp-"):
                    if time.time() - found.st_mtime > _ABANDONED:
                        path.unlink(missing_ok=True)
                else:
                    yield found.st_mtime, found.st_size, path

    # -- the store's own ---------------------------------------------------------------------------

    @property
    def location(self) -> str:
        """Where the store is."""
        return self.inner.location

    def where(self, digest: str) -> str:
        """Where the store has it."""
        return self.inner.where(digest)

    def put(self, data: bytes) -> str:
        """Put into the store."""
        return self.inner.put(data)

    def chunks(self, digest: str) -> Iterator[bytes]:
        """The store's bytes, whatever copies there are."""
        return self.inner.chunks(digest)

    def digests(self) -> Iterator[str]:
        """What the store holds."""
        return self.inner.digests()

    def state(self, digest: str) -> Stored | None:
        """What the store knows of it."""
        return self.inner.state(digest)

    def unfinished(self) -> Iterator[Unfinished]:
        """What the store lists."""
        return self.inner.unfinished()

    def discard(self, unfinished: Unfinished) -> None:
        """Delete it from the store."""
        self.inner.discard(unfinished)

    def claim(self, bank: str) -> None:
        """Claim the store, where it remembers whose it is."""
        claim(self.inner, bank)

    def owner(self) -> str | None:
        """Whose the store is, where it remembers that."""
        return owner_of(self.inner)

    def probe(self) -> None:
        """Probe the store."""
        self.inner.probe()
