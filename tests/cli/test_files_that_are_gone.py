"""A file of the bank that is gone: the message says which, and what it advises works."""

from __future__ import annotations

from pathlib import Path

from command_line import call, done, write_task


def _remove(bank: Path, digest: str) -> None:
    (file,) = bank.glob(f"objects/*/{digest}*")
    file.unlink()


def test_a_router_that_is_gone_is_named_and_another_can_be_fitted(bank: Path) -> None:
    before = done("--home", bank, "--json", "list").document["routers"][-1]
    _remove(bank, before["digest"])
    asked = ("--home", bank, "--json", "predict", "good film")
    error = call(*asked).error
    assert error["code"] == 13
    assert f"router@{before['version']}" in error["message"]
    assert "retrain-router" in error["message"]
    assert "add the" not in error["message"]
    done("--home", bank, "retrain-router")
    assert done(*asked).lines[0]["task"] == "mood"


def test_an_expert_that_is_gone_is_there_again_once_it_is_trained_again(
    bank: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "more.csv", "mood", 60, seed=5)
    add = ("--home", bank, "--json", "add", "--task", "more", "--data", data, "--epochs", 1)
    digest = done(*add).document["expert"]["digest"]
    _remove(bank, digest)
    asked = ("--home", bank, "--json", "predict", "--task", "more", "good film")
    error = call(*asked).error
    assert error["code"] == 13
    assert "add --new-version" in error["message"]
    assert done(*add, "--new-version").document["expert"]["digest"] == digest
    assert done("--home", bank, "--json", "verify").document["ok"]
    assert done(*asked).lines[0]["expert"] == "more@2"
