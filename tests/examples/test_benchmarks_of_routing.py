"""The routing benchmarks run to their end on a few real rows and print what they promise."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from expertbank.config import sha256_text
from expertbank.data import load_task, task_spec
from expertbank.routing.feature_file import FeatureFile
from expertbank.routing.grid import STEP

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
TASKS = ("cola", "mrpc", "rte", "sst2")
ROWS, HIDDEN = 60, 4
BLOCKS = 12
"""Four states, pooled in three ways."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of a few real rows: real shapes and sizes, and every task about its own centre."""
    if not all((DATA / name).is_dir() for name in TASKS):
        pytest.skip(f"no data in {DATA}")
    folder = tmp_path_factory.mktemp("features")
    for name in TASKS:
        data = load_task(
            task_spec(name), str(DATA / name), limit=ROWS, eval_limit=ROWS // 2, seed=0
        )
        generator = torch.Generator().manual_seed(int(sha256_text(name)[:8], 16))
        centre = torch.randn(BLOCKS * HIDDEN, generator=generator)
        parts = [
            (centre + torch.randn(len(rows), len(centre), generator=generator)).half()
            for rows in (data.train, data.validation)
        ]
        shapes = [tuple(row.shape for row in rows) for rows in (data.train, data.validation)]
        file = FeatureFile(*parts, *shapes, "0" * 64)
        (folder / f"{name}-{ROWS}-256-0.safetensors").write_bytes(file.to_bytes())
    return folder


Run = Callable[..., str]


@pytest.fixture
def run(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs a benchmark over the cached features and gives back what it printed."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "benchmarks"))
    state = torch.random.get_rng_state()

    def printed(name: str, *words: object) -> str:
        shared = [DATA, "--cache", cache, "--rows", ROWS, "--tasks", *TASKS]
        importlib.import_module(name).main([str(word) for word in (*shared, *words)])
        return capsys.readouterr().out

    yield printed
    torch.random.set_rng_state(state)


def cells(text: str) -> list[list[str]]:
    """The tables' lines, each in its cells."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_accuracy_is_given_for_every_method_masked_and_free(run: Run) -> None:
    methods = ("lda", "ridge", "lda, stats kept", "joint logistic regression", "naive sequential")
    found = cells(run("router_accuracy", "--steps", 2, 4, "--methods", *methods))
    accuracies = {(line[0], line[1]): line[2:4] for line in found[1 : 1 + 2 * len(methods)]}
    assert set(accuracies) == {(name, mask) for name in methods for mask in ("masked", "free")}
    assert all(0 <= float(value) <= 1 for line in accuracies.values() for value in line)
    # Four tasks about centres of their own: a gate that saw all of them tells them apart.
    assert float(accuracies["lda", "free"][1]) > 0.9
    assert [line[0] for line in found[-4:]] == list(TASKS)


def test_features_are_compared_by_states_and_poolings(run: Run) -> None:
    head, *lines = cells(run("router_features", "--kinds", "lda", "--first", 4))
    assert head == ["states", "poolings", "width", "gate", "held-out", "validation"]
    assert [line[2] for line in lines] == ["4", "4", "4", "8"]
    assert all(0.2 < float(value) <= 1 for line in lines for value in line[4:])


def test_the_cost_of_one_task_more_is_split_and_a_task_removed_leaves_no_byte(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "benchmarks"))
    words = ["--tasks", "3", "4", "--measured", "3", "--rows", "40", "--rounds", "1"]
    importlib.import_module("retrain_cost").main([*words, "--home", str(tmp_path / "banks")])
    text = capsys.readouterr().out
    assert text.count("old texts read: 0; without the last task again: the bytes of before") == 2
    head, features, stats = cells(text)
    assert head[:6] == ["tasks", "keep", "read, s", "add, s", "solve, s", "these three"]
    assert (features[:2], stats[:2]) == (["3", "features"], ["4", "stats"])
    for line in (features, stats):
        parts = [float(value) for value in line[2:5]]
        assert sum(parts) == pytest.approx(float(line[5].strip("*")), abs=0.02)
    assert float(features[6]) >= 0
    assert stats[6] == "-"


def test_what_is_held_out_is_never_fitted_on(run: Run, cache: Path) -> None:
    run("router_features", "--kinds", "lda", "--first", 1)
    module = importlib.import_module("routing_features")
    options = module.arguments("").parse_args(
        [
            *(str(DATA), "--cache", str(cache), "--rows", str(ROWS), "--tasks", "cola"),
            *("--poolings", "mean", "first"),
        ]
    )
    (task,) = module.real_tasks(options)
    fitted, (held, shapes) = task.fitted_on(tuning=True).train, task.tested_on(tuning=True)
    assert len(held) == len(shapes) == ROWS // 5
    assert len(fitted) + len(held) == len(task.train) == ROWS
    assert not {tuple(row) for row in held.tolist()} & {tuple(row) for row in fitted.tolist()}
    stored = load_file(cache / f"cola-{ROWS}-256-0.safetensors")["train"]
    # State 0, mean and first token, come first of the twelve blocks.
    assert torch.equal(task.train[:, : 2 * HIDDEN], stored[:, : 2 * HIDDEN].half() * STEP)
