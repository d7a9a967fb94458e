"""The benchmark of growth runs to its end and counts what is stored."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


def test_it_tells_what_is_stored_with_all_routers_and_with_the_newest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "benchmarks"))
    importlib.import_module("growth").main(["--tasks", "4", "--keep-routers", "1"])
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line[:2] == "| "]
    last = [[cell.strip() for cell in row[1:5]] for row in rows if row[1].strip() == "4"]
    assert [row[1] for row in last] == ["20", "17"], "four files a task and a gate, or one gate"
    assert [row[3] for row in last] == ["4", "4"]
