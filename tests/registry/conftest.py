from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bank_rows import full_bank, new_bank

from expertbank.registry.registry import Registry


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("banks")
    new_bank(folder / "empty.db").close()
    full_bank(folder / "full.db").close()
    return {"empty": folder / "empty.db", "full": folder / "full.db"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def empty(path: Path, made_once: dict[str, Path]) -> Iterator[Registry]:
    """A bank with a backbone and nothing else."""
    shutil.copyfile(made_once["empty"], path)
    with Registry.open(path) as registry:
        yield registry


@pytest.fixture
def full(path: Path, made_once: dict[str, Path]) -> Iterator[Registry]:
    """A bank with rows in every table."""
    shutil.copyfile(made_once["full"], path)
    with Registry.open(path) as registry:
        yield registry
