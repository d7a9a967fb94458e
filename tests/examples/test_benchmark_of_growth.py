"""The benchmark of growth runs to its end and counts what is stored."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


def test_it_tells_what_is_stored_with_all_routers_and_with_the_newest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "benchmarks"))
    importlib.import_module("growth").main(["--tasks", "2", "--keep-routers", "1"])
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line[:2] == "| "]
    kept = [(int(row[2]), int(row[4])) for row in rows if row[1].strip() == "2"]
    assert [files - choices for files, choices in kept] == [3 * 2 + 2, 3 * 2 + 1]
    assert all(2 <= choices <= 3 for _, choices in kept)
