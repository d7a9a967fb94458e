from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_bank import TASKS, add

from expertbank import Bank

FolderOf = Callable[[str], Path]


@pytest.fixture(scope="session")
def made_job(backbone_folder: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a bank of three tasks, a router after each, and a bundle."""
    folder = tmp_path_factory.mktemp("job")
    with Bank.open(folder / "bank", backbone=str(backbone_folder("bert"))) as bank:
        for task in TASKS:
            add(bank, task, folder)
            bank.retrain_router()
        bank.export(folder / "bundle")
    return folder


@pytest.fixture
def job(made_job: Path, tmp_path: Path) -> Path:
    """A copy of ``made_job`` to write to."""
    shutil.copytree(made_job, tmp_path / "job")
    return tmp_path / "job"


@pytest.fixture
def own_backbone(backbone_folder: FolderOf, tmp_path: Path) -> Path:
    """A backbone folder that a test may change or delete."""
    folder: Path = shutil.copytree(backbone_folder("bert"), tmp_path / "backbone")
    return folder
