"""A whole bank on a fused backbone and on one outside the table; what is adapted and pooled."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import call, done, write_task


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("gpt_neox", []),
        ("smollm3", []),
        ("nomic_bert", []),
        ("granite", ["--target", "q_proj", "--target", "mlp.up_proj", "--pooling", "mean"]),
    ],
)
def test_a_bank_grows_routes_and_ships_on_other_families(
    backbone_folder, tmp_path: Path, family: str, options: list[str]
) -> None:
    home, bundle = tmp_path / "bank", tmp_path / "bundle"
    for task, new in (("mood", ["--backbone", backbone_folder(family)]), ("poll", [])):
        data = write_task(tmp_path / f"{task}.csv", task)
        words = ["--task", task, "--data", data, "--epochs", 2, *options, *new]
        done("--home", home, "add", *words)
    done("--home", home, "retrain-router")
    text = "is the law good vote"
    here = done("--home", home, "--json", "predict", text).lines
    done("--home", home, "--json", "export", bundle)
    there = done("--json", "predict", text, "--bundle", bundle).lines
    assert here[0]["label"] == there[0]["label"]
    assert here[0]["scores"] == pytest.approx(there[0]["scores"], abs=1e-5)
    report = done("--home", home, "--json", "forgetting-report", "--verify").document
    assert {task["verdict"]["expert"] for task in report["tasks"]} == {"identical"}


def test_a_model_without_clear_roles_and_without_a_target_exits_2_and_names_the_flag(
    backbone_folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("expertbank.backbones.recognise.find_roles", lambda *_: None)
    data = write_task(tmp_path / "mood.csv", "mood", 40)
    words = ["--task", "mood", "--data", data, "--backbone", backbone_folder("granite")]
    answer = call("--home", tmp_path / "bank", "add", *words)
    assert answer.code == 2, answer.err
    assert "--target" in answer.err
    assert "q_proj" in answer.err
    answer = call("--home", tmp_path / "bank", "add", *words, "--target", "q_porj")
    assert answer.code == 2, answer.err
    assert "q_porj" in answer.err


def test_targets_and_pooling_of_a_list_are_read_as_on_the_command_line(
    backbone_folder, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "mood.csv", "mood", 40)
    listed = tmp_path / "tasks.yaml"
    listed.write_text(
        f"- task: mood\n  data: {data}\n  target: [query, output.dense]\n  pooling: first\n"
    )
    add = ["--json", "add", "--epochs", 1, "--backbone", backbone_folder("bert")]
    (from_list,) = done("--home", tmp_path / "a", *add, "--list", listed).document["added"]
    words = ["--task", "mood", "--data", data, "--pooling", "first"]
    words += ["--target", "query", "--target", "output.dense"]
    assert done("--home", tmp_path / "b", *add, *words).document["expert"] == from_list["expert"]
    plain = done("--home", tmp_path / "c", *add, *words[:4]).document["expert"]
    assert plain["digest"] != from_list["expert"]["digest"]
    assert plain["adapter_params"] < from_list["expert"]["adapter_params"]
