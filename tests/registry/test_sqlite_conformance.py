"""The SQLite registry keeps every promise of the protocol."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from expertbank.registry.registry import Registry
from expertbank.registry.sqlite.file import SqliteFile
from expertbank.testing.registries import RegistryConformance


class TestSqlite(RegistryConformance):
    @pytest.fixture
    def nowhere(self, tmp_path: Path) -> Callable[[], SqliteFile]:
        numbers = itertools.count()
        return lambda: SqliteFile(tmp_path / f"{next(numbers)}.db")

    @pytest.fixture
    def somewhere(
        self, nowhere: Callable[[], SqliteFile], made_once: dict[str, Path]
    ) -> Callable[[], SqliteFile]:
        def copy() -> SqliteFile:
            location = nowhere()
            shutil.copyfile(made_once["fresh"], location.path)
            return location

        return copy

    @pytest.fixture
    def full(self, location: SqliteFile, made_once: dict[str, Path]) -> Iterator[Registry]:
        shutil.copyfile(made_once["full"], location.path)
        with location.open() as registry:
            yield registry
