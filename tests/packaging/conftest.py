from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from expertbank import Bank, TrainConfig

FolderOf = Callable[[str], Path]


@pytest.fixture(scope="session")
def made_bank(backbone_folder: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank with one expert and a router; never write to it."""
    folder = tmp_path_factory.mktemp("packaging")
    data = folder / "mood.csv"
    rows = [f"the film {word} {other},{word}" for word in ("good", "bad") for other in range(20)]
    data.write_text("\n".join(["text,label", *rows]) + "\n")
    with Bank.open(folder / "bank", backbone=str(backbone_folder("bert"))) as bank:
        bank.add("mood", data=data, train=TrainConfig(epochs=1))
        bank.retrain_router()
    return folder / "bank"
