from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import TASKS, done, write_task

FolderOf = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the tester's own bank, colours or network gets in."""
    for name in ("COLUMNS", "EXPERTBANK_HOME", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def made_bank(backbone_folder: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three tasks' data, a bank over them and two routers; never write to it."""
    folder = tmp_path_factory.mktemp("made")
    home = folder / "bank"
    backbone = backbone_folder("bert")
    for task in TASKS:
        data = write_task(folder / f"{task}.csv", task)
        routed = ["--retrain-router"] if task != "mood" else []
        new = ["--backbone", backbone] if task == "mood" else []
        done("--home", home, "add", "--task", task, "--data", data, "--epochs", 2, *routed, *new)
    done("--home", home, "export", folder / "bundle")
    return folder


@pytest.fixture
def bank(made_bank: Path, tmp_path: Path) -> Path:
    """A bank of its own to write to, with everything ``made_bank`` has."""
    home = tmp_path / "bank"
    shutil.copytree(made_bank / "bank", home)
    return home


@pytest.fixture(scope="session")
def importable(made_bank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of ``made_bank`` that other banks can import; never write to it."""
    folder = tmp_path_factory.mktemp("importable")
    shutil.copytree(made_bank / "bank", folder / "bank")
    done("--home", folder / "bank", "export", folder / "bundle", "--for-import")
    return folder / "bundle"


@pytest.fixture
def backbone(backbone_folder: FolderOf) -> Path:
    return backbone_folder("bert")
