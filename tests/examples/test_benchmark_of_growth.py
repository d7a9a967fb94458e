"""The benchmark of growth runs to its end and counts what is stored."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


def test_it_tells_what_is_stored_with_all_routers_and_with_the_newest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "benchmarks"))
    importlib.import_module("growth").main(["--steps", "3", "--every", "1", "--keep", "1"])
    out = capsys.readouterr().out
    rows = [line.split("|") for line in out.splitlines() if line.startswith("| ")]
    # Four files an expert, a gate a router; the sweep that keeps one comes at the 25th step.
    counted = [(row[1], row[2].split(",")[0], row[3].split(",")[0]) for row in rows]
    last = [tuple(map(int, (steps, own, gates))) for steps, own, gates in counted if steps == " 3 "]
    assert last == [(3, 12, 3), (3, 12, 3)]
    assert "0 problems and 0 files without a row" in out
