"""Immutable files named by their SHA-256, and the portable folder that is shipped.

Keep a bank's files elsewhere: give what ``ArtifactStore`` promises, and add it under the scheme of
its URLs with ``STORES.register("s3", MyStore)`` or with an entry point of the group
``expertbank.stores``. ``expertbank.testing.stores`` tests it.
"""

from expertbank.artifacts.store import (
    ArtifactStore,
    Stored,
    Unfinished,
    rehashed,
    require_digest,
    sha256_bytes,
)
from expertbank.artifacts.stores import STORES, open_store

__all__ = [
    "STORES",
    "ArtifactStore",
    "Stored",
    "Unfinished",
    "open_store",
    "rehashed",
    "require_digest",
    "sha256_bytes",
]
