from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from expertbank.registry.sqlite.file import SqliteFile
from expertbank.registry.sqlite.registry import SqliteRegistry
from expertbank.testing.bank_rows import BACKBONE, fill

pytest.register_assert_rewrite(
    "expertbank.testing.registries",
    *(
        f"expertbank.testing.registry_{part}"
        for part in ("experts", "routers", "groups", "growth", "removal", "writers")
    ),
)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files to copy: making a registry and filling it takes longer."""
    folder = tmp_path_factory.mktemp("banks")
    made = {name: folder / f"{name}.db" for name in ("fresh", "empty", "full")}
    SqliteFile(made["fresh"]).create().close()
    for name in ("empty", "full"):
        shutil.copyfile(made["fresh"], made[name])
    with SqliteFile(made["empty"]).open() as registry:
        registry.set_backbone(BACKBONE)
    with SqliteFile(made["full"]).open() as registry:
        fill(registry)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def empty(path: Path, made_once: dict[str, Path]) -> Iterator[SqliteRegistry]:
    """A bank with a backbone and nothing else."""
    shutil.copyfile(made_once["empty"], path)
    with SqliteFile(path).open() as registry:
        yield registry


@pytest.fixture
def full(path: Path, made_once: dict[str, Path]) -> Iterator[SqliteRegistry]:
    """A bank with rows in every table."""
    shutil.copyfile(made_once["full"], path)
    with SqliteFile(path).open() as registry:
        yield registry
