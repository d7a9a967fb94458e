"""The benchmarks against LoRA run, compare what they say they compare, and go on after a stop."""

from __future__ import annotations

import importlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tiny
import torch

from expertbank import AdapterConfig, TrainConfig
from expertbank.backbones.backbone import Backbone
from expertbank.training.expert import ExpertJob, train_expert

ROOT = Path(__file__).parents[2]
WORDS = ("good", "bad", "film", "plot", "sky", "blue", "river", "money", "team", "law")
Script = Callable[..., ModuleType]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The catalog's mrpc with a few rows of the tiny backbones' words."""
    pandas = pytest.importorskip("pandas")
    generator = np.random.default_rng(0)
    folder = tmp_path / "data" / "mrpc"
    folder.mkdir(parents=True)
    for split, count in (("train", 60), ("validation", 20)):
        rows = [
            {
                "sentence1": " ".join(generator.choice(WORDS, 5 + place % 5)),
                "sentence2": " ".join(generator.choice(WORDS, 6)),
                "label": place % 2,
                "idx": place,
            }
            for place in range(count)
        ]
        pandas.DataFrame(rows).to_parquet(folder / f"{split}.parquet")
    return tmp_path / "data"


def test_the_sequential_contraction_gives_the_dense_update(script: Script) -> None:
    projection = script("projection")
    from expertbank.tt import TTShape, dense

    shape = TTShape.of(24, 30, 3)
    generator = torch.Generator().manual_seed(0)
    cores = [torch.randn(size, generator=generator).double() for size in shape.core_shapes]
    x = torch.randn(2, 5, 24, generator=generator).double()
    expected = x @ dense([core.unsqueeze(0) for core in cores], shape)[0]
    found = projection.sequential(projection.paper_order(x, shape), cores, shape)
    assert torch.allclose(found, expected, atol=1e-10)


def test_the_projection_benchmark_prints_every_way(
    script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    script("projection", "--small", "--rounds", 1).main()
    out = capsys.readouterr().out
    assert "torch threads: 1" in out
    assert all(out.count(f"| {way} |") == 4 for way in ("sequential", "dense", "collapse"))


def _job(backbone: Backbone, epochs: int = 2) -> ExpertJob:
    return ExpertJob(
        "t",
        "classification",
        ("a", "b"),
        tiny.keyword_rows(48, 0, "good", "bad"),
        tiny.keyword_rows(16, 1, "good", "bad"),
        AdapterConfig(),
        TrainConfig(epochs=epochs),
        tiny.spec_of(backbone, route_layer=1),
    )


def test_lora_trains_on_the_batches_that_the_product_trains_on(
    script: Script, bert: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = script("lora_baseline")
    from expertbank.training import expert

    seen: list[list[tuple[int, ...]]] = []
    real = expert.shuffled_batches

    def watched(*values: object) -> list[tuple[int, ...]]:
        seen.append(real(*values))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(expert, "shuffled_batches", watched)
    job = _job(bert)
    product = train_expert(job, bert)
    assert baseline._plans(job, bert) == seen
    lora = baseline.train_lora(job, bert, baseline.LoraSettings(1e-3))
    assert lora.tokens == product.tokens
    assert lora.adapter_params == 4 * 2 * 2 * 16 * tiny.HIDDEN


def test_the_trained_lora_answers_with_its_best_epoch_and_leaves_the_backbone_alone(
    script: Script, bert: Backbone
) -> None:
    baseline = script("lora_baseline")
    job = _job(bert, epochs=3)
    before = {name: tensor.clone() for name, tensor in bert.model.state_dict().items()}
    lora = baseline.train_lora(job, bert, baseline.LoraSettings(3e-3))
    right = baseline.right_answers(lora.backbone, lora.head_weight, lora.head_bias, job.selection)
    assert np.mean(right) == pytest.approx(lora.selection_score, abs=1e-6)
    expert = train_expert(job, bert)
    answers = script("trials").right_answers(job, expert.file, job.selection, bert)
    assert np.mean(answers) == pytest.approx(expert.selection_score, abs=1e-6)
    after = bert.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_pigeonhole_bootstrap_has_the_spread_of_a_mean_when_there_is_one_seed(
    script: Script,
) -> None:
    intervals = script("intervals")
    generator = np.random.default_rng(1)
    differences = generator.choice([-1.0, 0.0, 1.0], size=(1, 400), p=[0.1, 0.7, 0.2])
    draws = intervals.pigeonhole(differences, generator)
    assert draws.mean() == pytest.approx(differences.mean(), abs=0.005)
    assert draws.std() == pytest.approx(differences.std() / 20, rel=0.06)
    assert not intervals.pigeonhole(np.zeros((3, 50)), generator).any()
    # Seeds that differ widen it beyond what rows alone would give.
    apart = np.stack([np.full(400, 0.1), np.full(400, -0.1)])
    assert intervals.pigeonhole(apart, generator).std() > 0.05


def test_the_papers_tables_go_on_where_they_were_stopped(
    script: Script,
    data: Path,
    tmp_path: Path,
    backbone_folder: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "runs.jsonl"
    small = ["--rows", 40, "--max-length", 24, "--seeds", 0, 1, "--tasks", "mrpc"]
    words = [data, "--out", out, "--backbone", backbone_folder("bert"), *small]
    script("paper", *words).main()
    whole = capsys.readouterr().out
    assert "| LoRA r=16 | 98,304 | 147,456 | 1,703,936 |" in whole
    lines = out.read_text().splitlines()
    runs = [json.loads(line) for line in lines]
    # With so few rows the default has rank 1 anyway.
    sides = [s for s in importlib.import_module("paper").SIDES if s != "default, rank 1"]
    assert [(run["side"], run["seed"]) for run in runs] == [(s, n) for n in (0, 1) for s in sides]
    assert all(len(run["right"]) == 20 for run in runs)
    # The last run is lost half-way through its line.
    out.write_text("\n".join([*lines[:-1], lines[-1][:50]]))
    script("paper", *words).main()
    again = capsys.readouterr().out
    assert again.count("mrpc, seed ") == 1, "only the lost run is repeated"
    table = whole[whole.index("| side |") :]
    assert _without_minutes(table) == _without_minutes(again[again.index("| side |") :])
    script("paper", *words, "--dtype", "bfloat16").main()
    assert capsys.readouterr().out.count("mrpc, seed ") == len(runs), "other runs"


def _without_minutes(table: str) -> list[list[str]]:
    return [line.split(" | ")[:-1] for line in table.splitlines()]


def test_a_decoder_is_trained_in_whole_pairs_at_rates_that_are_no_edge_and_goes_on_after_a_stop(
    script: Script,
    data: Path,
    tmp_path: Path,
    backbone_folder: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(data / "mrpc", data / "rte")
    out = tmp_path / "runs.jsonl"
    sizes = "--rows 40 --rate-rows 24 --rate-judge 16 --route-rows 30 --route-eval 10"
    short = "--epochs 1 --rate-epochs 1 --max-length 24 --tasks mrpc rte --rate-tasks mrpc"
    given = [*sizes.split(), *short.split(), "--out", out]
    words = [data, "--backbone", backbone_folder("llama"), *given]
    decoder = script("decoder", *words, "--default-states")
    decoder.main()
    whole = capsys.readouterr().out
    assert "2 tasks, rows of training/validation: mrpc 30/10, rte 30/10" in whole
    runs = [json.loads(line) for line in out.read_text().splitlines()]
    pairs = [run for run in runs if "rows" in run["conditions"]]
    assert [(run["task"], run["side"]) for run in pairs] == [
        (task, side) for task in ("mrpc", "rte") for side in (decoder.OURS, decoder.LORA)
    ]
    assert all(pairs[n]["tokens"] == pairs[n + 1]["tokens"] for n in (0, 2)), "the same batches"
    assert all(len(run["right"]) == 20 and run["majority"] == 0.5 for run in pairs)
    # The last run is lost half-way through its line.
    lines = out.read_text().splitlines()
    out.write_text("\n".join([*lines[:-1], lines[-1][:50]]))
    script("decoder", *words, "--parts", "experts").main()
    again = capsys.readouterr().out
    trained = [line for line in again.splitlines() if line.startswith(("rates:", "experts:"))]
    assert len(trained) == 1, "only the lost run is repeated"
    assert trained[0].startswith("experts: rte, LoRA r=16 at ")
    table = whole[whole.index("| task |") : whole.index("\n\nadapter parameters")]
    assert table in again
    script("decoder", *words, "--parts", "experts", "--tt-rank", 2, 1, 2, "--workers", 2).main()
    other = capsys.readouterr().out.splitlines()
    trained = [line.split(" at ")[0] for line in other if line.startswith(("rates:", "experts:"))]
    assert sorted(trained) == ["experts: mrpc, TT-LoRA", "experts: rte, TT-LoRA"], (
        "LoRA stays as it is"
    )
    beside = ["--sides", "TT-LoRA", "LoRA r=1", "--rates", pairs[0]["rate"], 0.002]
    script("decoder", *words, "--parts", "experts", *beside).main()
    third = capsys.readouterr().out
    trained = [line.split(" at ")[0] for line in third.splitlines() if line.startswith("experts:")]
    assert trained == ["experts: mrpc, LoRA r=1", "experts: rte, LoRA r=1"]
    assert "| task | rows | seeds | TT-LoRA | LoRA r=1 |" in third
    # The lowest rate that was tried judged best: the one below it is tried, no other.
    kept = [run for run in runs if "rate_rows" in run["conditions"]]
    kept = [run for run in kept if run["side"] == "TT-LoRA" and run["rate"] in (1e-3, 2e-3, 5e-3)]
    for run in kept:
        run["right"] = ("1" if run["rate"] == 1e-3 else "0") * len(run["right"])
    out.write_text("".join(json.dumps(run) + "\n" for run in kept))
    script("decoder", *words, "--parts", "rates").main()
    tried = [line for line in capsys.readouterr().out.splitlines() if "mrpc, TT-LoRA at" in line]
    assert [line.split(":")[1] for line in tried] == [" mrpc, TT-LoRA at 0.0005, seed 0"]


def test_the_front_is_of_sides_that_none_as_small_beats(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    front, paper = script("front"), script("paper")
    rights = {"LoRA r=1": "1101", "TT-LoRA": "1100", "LoRA r=16": "1111"}
    sizes = {"LoRA r=1": 10, "TT-LoRA": 20, "LoRA r=16": 300}
    lines = [
        json.dumps(
            {
                "task": "mrpc",
                "seed": seed,
                "tried": paper.named(side, "mrpc"),
                "conditions": {},
                "params": sizes[side],
                "right": right,
            }
        )
        for side, right in rights.items()
        for seed in (0, 1)
    ]
    # A seed that the others lack does not count.
    lines.append(lines[-1].replace('"seed": 1', '"seed": 2').replace("1111", "0000"))
    runs, picture = tmp_path / "runs.jsonl", tmp_path / "front.svg"
    runs.write_text("\n".join(lines) + "\n")
    front.main(["--runs", str(runs), "--tasks", "mrpc", "--out", str(picture)])
    said = [
        line.split("|")
        for line in capsys.readouterr().out.split("|---|---|---|---|---|\n")[1].splitlines()
    ]
    assert {row[1].strip(): row[5].strip() for row in said} == {
        "LoRA r=1": "yes",
        "TT-LoRA": "no",
        "LoRA r=16": "yes",
    }
    assert said[-1][3].strip() == "1.0000"
    assert "TT-LoRA 20 numbers, 0.500" in picture.read_text()


def test_sides_are_held_together_over_backbones_on_the_seeds_that_both_have(
    script: Script,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = script("together")
    monkeypatch.setattr(together, "RESULTS", tmp_path)

    def run(task: str, seed: int, side: str, right: str, **conditions: object) -> str:
        facts = {"task": task, "seed": seed, "side": side, "tried": side, "right": right}
        return json.dumps({**facts, "conditions": conditions})

    ours, theirs = "TT-LoRA", "LoRA r=1"
    now, cuda = {"patience": "score or loss"}, {"device": "cuda", "epochs": 4}
    paper = [
        run("mrpc", 0, ours, "1100", **now),
        run("mrpc", 0, theirs, "1110", **now),
        run("mrpc", 1, ours, "1111", **now),  # alone
        run("rte", 0, ours, "1111", **now),
        run("rte", 0, theirs, "1111", **now),
        run("rte", 1, ours, "0000"),  # under another rule
        run("meta", 0, ours, "0000", **now),  # left out
        run("meta", 0, theirs, "1111", **now),
    ]
    decoder = [
        run("mrpc", 0, ours, "11", **cuda),
        run("mrpc", 0, theirs, "10", **cuda),
        run("rte", 0, ours, "00", device="cpu", epochs=2),
    ]
    for name, lines in (("paper", paper), ("decoder", decoder)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    together.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line[:1] == "|"]
    assert [row[1:4] for row in rows[2:]] == [
        ["2", "2", "-12.50"],
        ["1", "1", "+50.00"],
        ["3", "3", "+8.33"],
    ]


def test_the_search_for_defaults_halves_and_goes_on_where_it_was_stopped(
    script: Script,
    data: Path,
    tmp_path: Path,
    backbone_folder: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "runs.jsonl"
    small = "--rows 36 --judge 16 --max-length 24 --tasks mrpc --stages length"
    words = [data, "--out", out, "--backbone", backbone_folder("bert"), *small.split()]
    recipe = script("recipe", *words)

    def few(start):
        return tuple(start.but(epochs=1, lr=rate) for rate in (1e-3, 3e-3, 5e-3, 1e-2))

    monkeypatch.setitem(recipe.STAGES, "length", (few, 3, True))
    recipe.main()
    whole = capsys.readouterr().out
    runs = [json.loads(line) for line in out.read_text().splitlines()]
    tried = [{run["tried"] for run in runs if run["seed"] == seed} for seed in range(3)]
    assert [len(names) for names in tried] in ([4, 2, 2], [4, 3, 2], [4, 3, 3])
    first = few(recipe.START)[0].name
    assert all(first in names for names in tried), "the reference sees every seed"
    recipe.main()
    again = capsys.readouterr().out
    assert "mrpc, seed" not in again, "nothing is repeated"
    assert whole[whole.index("chosen") :] == again[again.index("chosen") :]


def test_rows_that_judge_a_setting_are_neither_trained_on_nor_choose(
    script: Script, data: Path, bert: Backbone
) -> None:
    trials = script("trials")
    spec = tiny.spec_of(bert, route_layer=1)
    place, wish = data / "mrpc", (AdapterConfig(), TrainConfig())
    job, judges = trials.judged_job("mrpc", place, bert, spec, *wish, 30, 20)
    parts = [{row.sequences for row in rows} for rows in (job.train, job.selection, judges)]
    assert all(len(part) for part in parts)
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert not parts[0] & parts[1]


def test_the_speed_benchmark_times_every_side(
    script: Script,
    data: Path,
    backbone_folder: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("accelerate")
    small = ["--tasks", "mrpc", "--rows", 24, "--epochs", 1, "--rounds", 1, "--max-length", 24]
    words = [data, "--backbone", backbone_folder("bert"), "--dtypes", "float32", *small]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    script("training_speed", *words).main()
    torch.set_rng_state(states[0])  # the Trainer seeds the global generators
    random.setstate(states[1])
    np.random.set_state(states[2])
    out = capsys.readouterr().out
    assert "| TT-LoRA, layers 1 and up |" in out
    assert "| PEFT LoRA, same batches |" in out
    assert "| PEFT LoRA, Trainer |" in out
