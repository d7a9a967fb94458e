"""A store: all of a bank's files in one SQLite file, ``sample:///absolute/file.db``."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from expertbank.artifacts import ArtifactStore, Stored, rehashed, require_digest, sha256_bytes
from expertbank.errors import ExpertBankError, IntegrityError

TABLE = "CREATE TABLE IF NOT EXISTS blobs (digest TEXT PRIMARY KEY, put REAL, data BLOB)"


class SqliteStore(ArtifactStore):
    """``put`` is one transaction, so nothing unfinished is ever left."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.path = Path(unquote(urlsplit(url).path))

    @property
    def location(self) -> str:
        return self.url

    def where(self, digest: str) -> str:
        return f"{self.path}, blob {require_digest(digest)}"

    def put(self, data: bytes) -> str:
        digest = sha256_bytes(data)
        self._run("INSERT OR REPLACE INTO blobs VALUES (?, ?, ?)", digest, time.time(), data)
        return digest

    def chunks(self, digest: str) -> Iterator[bytes]:
        where = self.where(digest)
        found = self._run("SELECT data FROM blobs WHERE digest = ?", digest)
        if not found:
            raise IntegrityError(f"artifact {digest} is not in {self.path}")
        return rehashed(digest, found[0], where)

    def digests(self) -> Iterator[str]:
        return (digest for (digest,) in self._run("SELECT digest FROM blobs ORDER BY digest"))

    def state(self, digest: str) -> Stored | None:
        sql = "SELECT length(data), put FROM blobs WHERE digest = ?"
        found = self._run(sql, require_digest(digest))
        return Stored(*found[0]) if found else None

    def delete(self, digest: str) -> None:
        self._run("DELETE FROM blobs WHERE digest = ?", require_digest(digest))

    def probe(self) -> None:
        if not os.access(self.path if self.path.exists() else self.path.parent, os.W_OK):
            raise ExpertBankError(f"{self.path} cannot be written")

    def _run(self, sql: str, *values: Any) -> list[Any]:
        """One statement in a transaction of its own; of a file that is not there, nothing."""
        if not sql.startswith("INSERT") and not self.path.exists():
            return []
        try:
            with closing(sqlite3.connect(self.path, timeout=60)) as file, file:
                file.execute(TABLE)
                return file.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise ExpertBankError(f"the store at {self.url}: {error}") from error
