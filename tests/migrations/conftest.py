from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import Engine

from expertbank.registry import schema
from expertbank.registry.sqlite.connection import engine_at

ASSETS = Path(__file__).parents[1] / "assets"


@pytest.fixture
def alembic_config():
    return schema.alembic_config()


@pytest.fixture
def alembic_engine(tmp_path: Path) -> Engine:
    return engine_at(tmp_path / "alembic.db", mode="rwc", foreign_keys=False)


@pytest.fixture
def old_bank(tmp_path: Path) -> Path:
    """A copy of the bank that expertbank 0.1 wrote, with rows in every table."""
    path = tmp_path / "registry.db"
    shutil.copyfile(ASSETS / "registry_0001.db", path)
    return path


@pytest.fixture
def head_bank(tmp_path: Path) -> Path:
    """A copy of the frozen bank of the newest revision; its task ``boolq`` is in a group."""
    path = tmp_path / "registry.db"
    shutil.copyfile(ASSETS / f"registry_{schema.HEAD}.db", path)
    return path
