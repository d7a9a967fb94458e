"""The benchmark of `unknowns` runs to its end on a few real rows and gives every figure."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "intents" / "clinc150"


def test_groups_are_compared_with_what_the_rows_are_from(
    backbone_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not DATA.is_dir():
        pytest.skip(f"no data in {DATA}")
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "benchmarks"))
    module = importlib.import_module("next_expert")
    assert module.purity([1, 1, 1, 2], ["a", "a", "b", "b"]) == 0.75
    words = ("--known", 8, "--rows", 40, "--mixed", 10, "--splits", 1)
    module.main([str(one) for one in (DATA, *words, "--backbone", backbone_folder("bert"))])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("machine: ")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = {line[0]: line[1:] for line in cells if line[0] in module.NAMES}
    assert set(found) == set(module.NAMES)
    assert int(found["rows of the stream"][0]) == 2 * 450 + 8 * 10
    for name in module.NAMES[6:10]:
        assert -0.1 < float(found[name][0]) <= 1


def test_without_data_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "benchmarks"))
    importlib.import_module("next_expert").main([str(tmp_path / "nowhere")])
    assert "skipped: there is no data" in capsys.readouterr().out
