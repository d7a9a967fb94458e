"""Type, device and memory of training: what the command line says, the bank does."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import call, done, write_task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the data of one task."""
    write_task(tmp_path / "data.csv", "mood", 40)
    return tmp_path


def add(folder: Path, home: str, *words: object):
    home_words = ("--home", folder / home, "--json")
    task = ("--task", "mood", "--data", folder / "data.csv", "--epochs", 1)
    return done(*home_words, "add", *task, *words).document


def test_a_bank_of_bfloat16_trains_routes_answers_and_ships(folder: Path, backbone: Path) -> None:
    added = add(folder, "bank", "--backbone", backbone, "--dtype", "bfloat16")
    bank = ("--home", folder / "bank", "--json")
    assert done(*bank, "show", "mood@1").document["run"]["environment"]["dtype"] == "bfloat16"
    done(*bank, "retrain-router")
    done(*bank, "export", folder / "bundle")
    here = done(*bank, "predict", "film bad plot").document
    shipped = done("--json", "predict", "film bad plot", "--bundle", folder / "bundle").document
    assert here == shipped
    report = done(*bank, "forgetting-report", "--verify").document["tasks"][0]
    assert report["oracle"] == report["at_add"] == added["metrics"]["accuracy"]


def test_the_dtype_of_a_bank_is_fixed_by_its_first_command(folder: Path, backbone: Path) -> None:
    bank = ("--home", folder / "bank", "--json")
    first = done(*bank, "init", "--backbone", backbone, "--dtype", "bfloat16").document
    assert first["feature_spec"]["dtype"] == "bfloat16"
    assert done(*bank, "init").document["feature_spec"]["dtype"] == "bfloat16"
    refused = call(*bank, "init", "--dtype", "float32")
    assert refused.code == 2
    assert "dtype bfloat16, not float32" in refused.error["message"]


def test_an_unknown_dtype_is_refused_and_no_bank_is_made(folder: Path, backbone: Path) -> None:
    words = ("init", "--backbone", backbone, "--dtype", "float16")
    refused = call("--home", folder / "bank", "--json", *words)
    assert refused.code == 2
    assert "'float16' is not one of 'float32', 'bfloat16'" in refused.error["message"]
    assert not (folder / "bank").exists()


@pytest.mark.parametrize(
    ("device", "says"), [("cuda:99", "not on this machine"), ("gpu", "called")]
)
def test_a_device_that_is_not_there_is_refused(
    folder: Path, backbone: Path, device: str, says: str
) -> None:
    refused = call(
        "--home", folder / "bank", "--json", "init", "--backbone", backbone, "--device", device
    )
    assert refused.code == 2
    assert says in refused.error["message"]


def test_the_named_device_is_recorded_with_the_expert(folder: Path, backbone: Path) -> None:
    add(folder, "bank", "--backbone", backbone, "--device", "cpu")
    shown = done("--home", folder / "bank", "--json", "show", "mood@1").document
    assert shown["run"]["environment"]["device"] == "cpu"


def test_memory_options_reach_the_training_and_are_recorded(folder: Path, backbone: Path) -> None:
    kept = add(folder, "one", "--backbone", backbone)["train"]
    assert kept["cached_trunk_rows"] > kept["examples"]
    assert kept["cached_trunk_bytes"] > 0
    words = ("--accumulate", 3, "--checkpoint-layers", "--cache-memory", 0)
    none = add(folder, "two", "--backbone", backbone, *words)["train"]
    assert (none["cached_trunk_rows"], none["cached_trunk_bytes"]) == (0, 0)
    run = done("--home", folder / "two", "--json", "show", "mood@1").document["run"]
    train = run["config"]["train"]
    assert (train["accumulate"], train["checkpoint_layers"], train["cache_bytes"]) == (3, True, 0)


def test_more_micro_batches_than_rows_in_a_step_are_refused(folder: Path, backbone: Path) -> None:
    words = ("--task", "mood", "--data", folder / "data.csv", "--backbone", backbone)
    refused = call(
        *("--home", folder / "bank", "--json", "add", *words),
        *("--batch-size", 4, "--accumulate", 5),
    )
    assert refused.code == 2
    assert "1 to the batch size 4" in refused.error["message"]
