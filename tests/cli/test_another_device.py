"""A bank's whole life with its backbone on another device than the CPU."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from command_line import done, task_rows, write_task
from second_device import DEVICES, device_called
from small_tasks import write_jsonl
from test_generation_command import paint_rows, write_paint


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def made(backbone_folder, device: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    bank = ["--device", device, "--home", folder / "bank"]
    start = [*bank, "add", "--backbone", backbone_folder("llama, tied"), "--epochs", 1]
    paint, mood = write_paint(folder / "paint.csv", 24), write_task(folder / "mood.csv", "mood", 30)
    with device_called(device):
        done(*start, "--task", "paint", "--data", paint, "--kind", "generation", "--lr", 0.02)
        done(*start, "--task", "mood", "--data", mood, "--retrain-router")
        done(*bank, "export", folder / "bundle")
    return folder


def test_what_was_made_elsewhere_answers_alike_there_and_on_the_cpu(
    made: Path, device: str, tmp_path: Path
) -> None:
    texts = [text for text, _ in [*paint_rows(12, seed=3), *task_rows("mood", 12, seed=3)]]
    texts.append("red is the sky " * 100)  # is cut: the trunk alone routes it, before the others
    random.Random(0).shuffle(texts)
    file = write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    asked = ["--json", "predict", "--bundle", made / "bundle", "--file", file]
    here = done("--device", "cpu", *asked).lines
    with device_called(device):
        there = done("--device", device, *asked).lines
    assert [one["truncated"] for one in there].count(True) == 1
    told = ("index", "task", "label", "unknown", "finish")
    assert [[one.get(k) for k in told] for one in here] == [
        [one.get(k) for k in told] for one in there
    ]
    assert {line["task"] for line in there} == {"paint", "mood"}


def test_reports_and_groups_of_unknown_rows_are_made_there(made: Path, device: str) -> None:
    bank = ["--device", device, "--home", made / "bank", "--json"]
    with device_called(device):
        report = done(*bank, "forgetting-report", "--verify").document
        assert report["weights_unchanged"]
        assert done(*bank, "evaluate", "--task", "mood", "--data", made / "mood.csv").document
        done(*bank, "unknowns", made / "paint.csv")


def test_adapters_go_out_and_come_in_there(made: Path, device: str, tmp_path: Path) -> None:
    bank = ["--device", device, "--home", made / "bank", "--json"]
    come = ["--task", "again", "--data", made / "mood.csv", "--epochs", 1]
    with device_called(device):
        exported = done(*bank, "export", tmp_path / "out", "--format", "peft").document
        assert all(one["error"] <= one["tolerance"] for one in exported["effects"])
        imported = done(*bank, "import", "--peft", tmp_path / "out" / "mood", *come).document
        assert imported["expert"]["id"] == "again@1"
        done(*bank, "remove", "--task", "again", "--yes")


def test_a_second_opinion_and_a_fallback_are_asked_there(made: Path, device: str) -> None:
    bank = ["--device", device, "--home", made / "bank", "--json"]
    with device_called(device):
        asked = done(*bank, "predict", "blue is the sky", "--second-opinion").lines
        spared = done(*bank, "predict", "law tax vote", "--fallback", "mood").lines
    assert asked[0]["label"]
    assert spared[0]["label"]
