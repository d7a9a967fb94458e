"""The benchmark of serving runs its shorter parts to their end and judges what was answered."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi")


@pytest.mark.slow
def test_each_part_prints_its_table_and_no_answer_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "benchmarks"))
    small = "throughput reload --tiny --tasks 3 --rows 16 --rounds 1 --swaps 4 --clients 2"
    importlib.import_module("serving").main(small.split())
    out = capsys.readouterr().out
    assert re.findall(r"^## (\w+)", out, re.MULTILINE) == ["Throughput", "Reload"]
    for way in ("`predict`", "core, 32 rows", "HTTP, one row", "FastAPI and PEFT"):
        assert f"| {way}" in out
    assert re.search(r"\| 4 \| \{200: \d+\} \| [\d,]+, [\d,]+ \| 0 \| 0 \|", out)
