"""The benchmark beside AdapterFusion: all sides see the same rows, and what is right is counted."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tiny
import torch

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "examples" / "benchmarks"
Script = Callable[..., ModuleType]
PAIRS = ("mrpc", "sentence1", "sentence2")
SINGLE = ("sst2", "sentence")
TASKS = ("mrpc", "sst2")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two tasks of the catalog with a few rows of the tiny backbones' words."""
    pandas = pytest.importorskip("pandas")
    generator = np.random.default_rng(0)
    for task, *columns in (PAIRS, SINGLE):
        folder = tmp_path / "data" / task
        folder.mkdir(parents=True)
        for split, count in (("train", 60), ("validation", 20)):
            rows = [
                {
                    **{name: " ".join(generator.choice(tiny.WORDS, 8)) for name in columns},
                    "label": place % 2,
                    "idx": place,
                }
                for place in range(count)
            ]
            pandas.DataFrame(rows).to_parquet(folder / f"{split}.parquet")
    return tmp_path / "data"


def test_other_sides_get_the_rows_that_the_bank_trains_on_and_a_stop_costs_one_run(
    script: Script,
    data: Path,
    tmp_path: Path,
    backbone_folder: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, work = tmp_path / "runs.jsonl", tmp_path / "work"
    small = ["--rows", 40, "--max-length", 24, "--eval-limit", 16, "--seeds", 3, "--only-bank"]
    words = [data, "--work", work, "--out", out, "--backbone", backbone_folder("bert"), *small]
    fusion = script("fusion", *words, "--tasks", *TASKS)
    bank = importlib.import_module("fusion_bank")
    trained = []
    real = bank.run_job

    def watched(job):
        trained.append(job)
        return real(job)

    monkeypatch.setattr(bank, "run_job", watched)
    fusion.main()
    whole = capsys.readouterr().out
    told = json.loads((work / "rows-3.json").read_text())
    assert [job.entry.task.name for job in trained] == list(told) == list(TASKS)
    for job in trained:
        rows = told[job.entry.task.name]
        for part, own in (("train", job.train), ("selection", job.selection)):
            assert [tuple(ids) for ids, _, _ in rows[part]] == [row.sequences[0] for row in own]
            assert [target for _, _, target in rows[part]] == [row.target for row in own]
        assert len(rows["validation"]) == 16
    runs = [json.loads(line) for line in out.read_text().splitlines()]
    assert [run["tried"] for run in runs] == ["expert", "expert", "router over 2", "bank", "bank"]
    answers = runs[3:]
    assert all(len(run["right"]) == 16 for run in answers)
    for run in answers:
        # A row that went elsewhere is not right, whatever was answered.
        assert all(s == "1" for r, s in zip(run["right"], run["sent"], strict=True) if r == "1")
    out.write_text("\n".join(out.read_text().splitlines()[:-1]) + '\n{"task": "sst2", "se')
    fusion.main()
    again = capsys.readouterr().out
    assert "expert of" not in again, "what is in the bank is not trained again"
    assert again[again.index("| side |") :] == whole[whole.index("| side |") :]


def test_sides_are_compared_on_the_seeds_that_both_have(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fusion = script("fusion", "data", "--work", tmp_path, "--tasks", *TASKS)
    other, trials = (importlib.import_module(name) for name in ("fusion_adapters", "trials"))
    options = fusion.arguments()
    runs = trials.Runs(tmp_path / "runs.jsonl", {})
    trained = {"params": 10, "head_params": 1, "seconds": 60.0}

    def both(right: str) -> dict[str, str]:
        return dict.fromkeys(TASKS, right)

    for rate in options.adapter_rates:
        for task in TASKS:
            run = other.adapter(task, rate, answer=False)
            score = 0.9 if rate == 1e-3 else 0.7
            runs.add(other.key_of(run, 0), {"selection": score, **trained})
    for rate in options.fusion_rates[1:]:
        worse = other.fusion(options, 1e-3, rate, answer=False)
        runs.add(other.key_of(worse, 0), {"selection": 0.6, **trained})
    fair = other.fusion(options, 1e-3, 1e-4, answer=True)
    for seed in (0, 1):
        for task in TASKS:
            counts = {"adapter_params": 3, "head_params": 1, "seconds": 30.0}
            runs.add((task, seed, "expert"), counts)
            right = "1100" if seed == 0 else "1111"
            runs.add((task, seed, "bank"), {"right": right, "named": "1110", "sent": "1101"})
            run = other.adapter(task, 1e-3, answer=True)
            runs.add(other.key_of(run, seed), {"right": "1111", **trained})
        found = {"params": 5, "seconds": 0.0, "sent": dict.fromkeys(TASKS, 0.75)}
        runs.add(("sst2", seed, "router over 2"), found)
        alike = {"right": both("1000"), "named": both("0000"), "sent": both("1111")}
        if seed == 0:  # the second seed was stopped before its fusions
            # That it answered says that it was trained: there is no line without answers.
            runs.add(other.key_of(fair, seed), {**alike, "selection": 0.8, **trained})
            runs.add(other.key_of(other.published(1e-3), seed), {**alike, **trained})
            with_our_head = {**alike, "right": both("1100"), **trained}
            runs.add(other.key_of(other.paired(fair), seed), with_our_head)
            for task in TASKS:
                run = other.paired(other.adapter(task, 1e-3, answer=True))
                runs.add(other.key_of(run, seed), {"right": "1111", **trained})
    fusion.report(runs, options)
    said = capsys.readouterr().out
    assert "rates: adapters 0.001, fusion 0.0001" in said
    assert "| bank, routed | 13 | 0.7500 | 0.7500 | 0.7500 | 2 | 1.0 |" in said
    assert "| Pfeiffer adapters, task named | 22 | 1.0000 | 1.0000 | 1.0000 | 2 | 2.0 |" in said
    assert "| Pfeiffer adapters, task named | -25.0 | -25.0 | -25.00 |" in said
    assert "| AdapterFusion, task not told | 33 | 0.2500 | 0.2500 | 0.2500 | 1 | 3.0 |" in said
    assert "| AdapterFusion, task not told | +25.0 | +25.0 | +25.00 |" in said
    assert "| AdapterFusion with our heads, task not told | +0.0 | +0.0 | +0.00 |" in said
    assert "| 2 | 0.750 | 0.750 | 0.750 |" in said


PUBLISHED = "--dtype bfloat16 --grid-tasks sst2 sick qnli --tables"


def test_the_published_runs_give_the_figures_on_the_pages(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script("fusion", "data", "--work", tmp_path, *PUBLISHED.split()).main()
    said = capsys.readouterr().out
    for row in ("+6.78 | +5.11 to +8.48", "+6.26 | +4.59 to +7.91"):
        assert row in said
    pages = [ROOT / "docs" / name for name in ("peers.md", "promises.md")]
    assert all("6.78" in page.read_text() and "6.26" in page.read_text() for page in pages)


def test_the_published_bank_answers_as_the_experts_of_the_papers_table() -> None:
    """They are trained by two ways into the product, on the same rows: all 21 are the same."""
    bank, alone = (
        [json.loads(line) for line in (BENCHMARKS / "results" / name).read_text().splitlines()]
        for name in ("fusion.jsonl", "paper.jsonl")
    )
    named = {(r["task"], r["seed"]): r["named"] for r in bank if r["tried"] == "bank"}
    # The last of a task and a seed: heads of pairs came after those of the mean.
    right = {(r["task"], r["seed"]): r["right"] for r in alone if r["side"] == "default"}
    assert len(named) == 21
    assert named == {key: right[key] for key in named}


def test_a_fusion_attends_as_the_library_does(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("adapters.composition")  # needs an older transformers: see fusion.py
    monkeypatch.syspath_prepend(str(BENCHMARKS / "others"))
    own = importlib.import_module("adapter_fusion")
    from adapters import DynamicAdapterFusionConfig
    from adapters.methods.modeling import BertFusion

    generator = torch.Generator().manual_seed(0)
    layer = BertFusion(DynamicAdapterFusionConfig(), 16, 0.0).eval()
    for one in layer.parameters():
        torch.nn.init.normal_(one, std=0.5, generator=generator)
    query, residual = (torch.randn(2, 5, 16, generator=generator) for _ in range(2))
    outputs = torch.randn(2, 5, 3, 16, generator=generator)
    given = {"query": query, "key": outputs, "value": outputs, "residual": residual}
    expected = layer(**given, output_attentions=False)
    found = own.attend(layer, **given, output_attentions=False)
    assert torch.allclose(found, expected, atol=1e-5)
