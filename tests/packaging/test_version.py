"""The version of the program is told, and is no part of what a bank stores for good."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from expertbank import Bank, TrainConfig
from expertbank.workflows.environment import package_versions

ROOT = Path(__file__).parents[2]


def test_the_changelog_begins_with_the_version_that_is_built() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (built,) = re.findall(r'^version = "(.+)"', project, re.MULTILINE)
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("## [")]
    assert headings[0] in {f"## [{built}]", "## [Unreleased]"}
    assert f"## [{built}]" in headings[:2]


def test_another_version_makes_the_same_expert_and_the_same_router(
    made_bank: Path,
    backbone_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    told = metadata.version

    def later(name: str) -> str:
        return "99.0" if name == "expertbank" else told(name)

    monkeypatch.setattr(metadata, "version", later)
    monkeypatch.setattr("expertbank.workflows.environment.version", later)
    assert package_versions()["expertbank"] == "99.0"
    with Bank.open(made_bank, read_only=True) as before:
        experts, routers = before.experts(), before.routers()
    with Bank.open(tmp_path / "bank", backbone=str(backbone_folder("bert"))) as bank:
        bank.add("mood", data=made_bank.parent / "mood.csv", train=TrainConfig(epochs=1))
        bank.retrain_router()
        assert [one.digest for one in bank.experts()] == [one.digest for one in experts]
        assert [one.digest for one in bank.routers()] == [one.digest for one in routers]
