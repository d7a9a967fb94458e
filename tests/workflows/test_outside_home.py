"""A bank at a home from outside: a class with what ``Home`` asks for, and nothing of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_bank import add

from expertbank import Bank
from expertbank.artifacts.lock import BankLock
from expertbank.artifacts.store import ArtifactStore
from expertbank.artifacts.stores import open_store
from expertbank.errors import InputError
from expertbank.registry.sqlite.file import SqliteFile
from expertbank.workflows.home import Home


@dataclass(frozen=True)
class Apart(Home):
    """Registry, files and what is this machine's own in three places."""

    root: Path

    def __str__(self) -> str:
        return f"apart:{self.root}"

    @property
    def location(self) -> SqliteFile:
        return SqliteFile(self.root / "facts.db")

    @property
    def making(self) -> str:
        return "nothing"

    def lock(self, wait: float) -> BankLock:
        return BankLock(self.root / "apart.lock", wait)

    def prepare(self) -> None:
        self.root.mkdir(exist_ok=True)

    def scratch(self, bank: str | None) -> Path:
        folder = self.root / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def store(self, url: str | None) -> ArtifactStore:
        return open_store(url or (self.root / "files").as_uri())

    def store_words(self, url: str | None) -> str:
        return url or "files"


def test_a_bank_at_a_home_from_outside_grows_is_looked_at_and_is_copied(
    backbone_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    home = Apart(tmp_path / "here")
    with Bank.open(home, backbone=str(backbone_folder("bert"))) as bank:
        digest = add(bank, "films", tmp_path)
        found = bank.doctor()
        assert found.healthy, [one for one in found.findings if one.state == "problem"]
        assert found.home == str(home)
        assert bank.verify().to_dict()["problems"] == []
        assert bank.copy_to(tmp_path / "copy").experts == 1
        with pytest.raises(InputError, match="restore is for a bank in a folder"):
            bank.restore(tmp_path / "backup")
    with Bank.open(tmp_path / "copy") as copy:
        assert copy.registry.expert("films@1").digest == digest
