"""The benchmark of the paper's model runs to its end on a small one and prints its tables."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SMALL = "--layers 2 --width 128 --vocabulary 300 --rows 3 --tokens 5 --new 2 --rounds 1"


def test_it_prints_training_memory_and_serving_beside_lora(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("peft")
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "benchmarks"))
    words = [*SMALL.split(), "--kept", "1", "2", "--experts", "2"]
    monkeypatch.setattr(sys, "argv", ["llama_size.py", "--work", str(tmp_path), *words])
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    try:
        importlib.import_module("llama_size").main()
    finally:
        torch.set_num_threads(threads)
        torch.random.set_rng_state(state)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    tables = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    named = {row[0]: row for row in tables}
    assert float(named["LoRA r = 16, all layers, PEFT"][3]) == 1.0
    assert named["LoRA r = 16, all layers, PEFT"][1] == f"{2 * 16 * (128 + 128 + 128 + 64):,}"
    ways = [row for row in tables if row[2] in {"bare", "one pass", "two passes"}]
    assert [row[2] for row in ways] == ["bare", "one pass", "two passes"]
    assert all(float(row[3]) >= 0 for row in ways)
