"""The sample store keeps every promise of a store, held against them as its author would."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from expertbank_sample.sqlite_store import SqliteStore

from expertbank.artifacts import ArtifactStore
from expertbank.testing.stores import StoreConformance


class TestSqliteStore(StoreConformance):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], ArtifactStore]:
        return partial(SqliteStore, f"sample://{tmp_path}/blobs.db")

    @pytest.fixture
    def store(self, reopen: Callable[[], ArtifactStore]) -> ArtifactStore:
        return reopen()

    def damage(self, store: ArtifactStore, digest: str, data: bytes) -> None:
        assert isinstance(store, SqliteStore)
        with closing(sqlite3.connect(store.path)) as file, file:
            file.execute("UPDATE blobs SET data = ? WHERE digest = ?", (data, digest))
