"""The benchmarks of unknown rows run on a few real rows and print what they promise."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
INTENTS = ROOT.parent / "shared" / "intents" / "clinc150"
TASKS = ("cola", "mrpc", "sst2")


def cells(text: str) -> list[list[str]]:
    """Cells of the tables in ``text``, without their rules."""
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_abstention_is_measured_on_tasks_that_the_router_never_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not all((DATA / name).is_dir() for name in TASKS):
        pytest.skip(f"no data in {DATA}")
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "benchmarks"))
    words = f"--home {tmp_path} --rows 50 --cut-rows 20 --epochs 1 --max-length 32 --splits 1"
    words += f" --known 2 --cuts 8 --tasks {' '.join(TASKS)}"
    importlib.import_module("abstention").main([str(DATA), *words.split()])
    text = capsys.readouterr().out
    assert text.count("split ") == 1
    table = cells(text)
    scores, alarms = table[1:10], table[11:]
    assert {"`predict`: router and expert", "-energy"} < {line[0] for line in scores}
    assert all(0 <= float(fpr) <= 1 for _, _, fpr in scores)
    assert [line[0] for line in alarms] == ["whole", "8"]
    assert all(0 <= float(line[2]) <= 1 for line in alarms)


def test_queries_out_of_scope_are_told_from_those_of_the_domains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not INTENTS.is_dir():
        pytest.skip(f"no data in {INTENTS}")
    data = tmp_path / "data"
    for name in ("banking", "travel"):
        (data / name).mkdir(parents=True)
        for part in ("train", "validation"):
            rows = pd.read_parquet(INTENTS / name / f"{part}.parquet")
            few = rows.groupby("text", sort=False).head(1).groupby("label").head(8)
            few.to_parquet(data / name / f"{part}.parquet")
    (data / "out_of_scope_test.jsonl").write_text(
        "".join(json.dumps({"text": f"how tall is tower {n}"}) + "\n" for n in range(20))
    )
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "benchmarks"))
    words = ["--home", str(tmp_path / "bank"), "--epochs", "1", "--max-length", "24"]
    importlib.import_module("out_of_scope").main([str(data), *words])
    text = capsys.readouterr().out
    assert "240 queries in scope" in text
    assert [line[0] for line in cells(text)] == [
        "",
        "`predict`",
        "`--second-opinion`",
        "score",
        "`unknown_score`",
        "with `--second-opinion`",
        "the router's part of it",
        "the expert's largest probability",
        "the router's confidence",
    ]
