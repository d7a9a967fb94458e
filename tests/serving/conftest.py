from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_bank import make

from expertbank import Bank
from expertbank.serving.from_bank import BankSource
from expertbank.serving.limits import ServeConfig
from expertbank.serving.server import Server


@pytest.fixture(scope="session")
def made_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backbone, a bank of three tasks and a router after each, and a bundle."""
    return make(tmp_path_factory.mktemp("serving"))


@pytest.fixture
def home(made_bank: Path, tmp_path: Path) -> Path:
    """A copy of ``made_bank`` to write to; its backbone is the shared one."""
    for name in ("bank", "bundle"):
        shutil.copytree(made_bank / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def bank(home: Path) -> Iterator[Bank]:
    with Bank.open(home / "bank") as opened:
        yield opened


@pytest.fixture
def server(bank: Bank) -> Iterator[Server]:
    """A server over a bank that a test may change, which looks for changes only when told."""
    made = Server(BankSource(bank), ServeConfig(reload="off", reload_seconds=0.05))
    made.start()
    made.wait_ready(60)
    yield made
    made.stop()
