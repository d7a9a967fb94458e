"""Reading many artifacts only to hash them, as fast as the store gives bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from expertbank.artifacts.store import ArtifactStore
from expertbank.errors import IntegrityError
from expertbank.files.header import header_bytes

WORKERS = 8
"""Threads: reading and hashing let go of the interpreter, and a distant store is waited for."""
GROUP = 16
"""Artifacts that a thread takes at once: handing over one by one costs as much as hashing it."""


@dataclass(frozen=True, slots=True)
class Rehashed:
    """What reading one artifact to its end found.

    Attributes:
        digest: its name.
        size: its bytes.
        header: its first bytes, as many as a safetensors header takes.
        error: why it is not what was put; then nothing else counts.
    """

    digest: str
    size: int = 0
    header: bytes = b""
    error: IntegrityError | None = None


def rehash(
    store: ArtifactStore, digests: Sequence[str], progress: Callable[[int], None]
) -> Iterator[Rehashed]:
    """Hash every artifact in ``digests``, several at once; results come in their order.

    Args:
        store: where they are.
        digests: which.
        progress: given the number of artifacts that are done, after each.

    Raises:
        ExpertBankError: the store cannot be reached.
    """
    groups = [digests[start : start + GROUP] for start in range(0, len(digests), GROUP)]
    pool = ThreadPoolExecutor(WORKERS, "rehash")
    try:
        found = pool.map(lambda group: [_rehashed(store, digest) for digest in group], groups)
        for number, one in enumerate(chain.from_iterable(found), 1):
            progress(number)
            yield one
    finally:
        pool.shutdown(cancel_futures=True)


def _rehashed(store: ArtifactStore, digest: str) -> Rehashed:
    header, size = b"", 0
    try:
        for chunk in store.chunks(digest):
            size += len(chunk)
            if len(header) < header_bytes(header):
                header += chunk
    except IntegrityError as error:
        return Rehashed(digest, error=error)
    return Rehashed(digest, size, header[: header_bytes(header)])
