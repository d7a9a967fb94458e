"""export --format peft: adapters and heads that PEFT and the README's own lines answer with."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import call, content, done, task_rows, write_task
from places import working_in
from small_tasks import choice_rows, value_rows, write_jsonl, write_rows

from expertbank.backbones.identity import public_name

FILES = {"README.md", "adapter_config.json", "adapter_model.safetensors", "head.safetensors"}


@pytest.fixture(scope="session")
def made_exports(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of one task of each kind, exported in both formats; never write to it."""
    folder = tmp_path_factory.mktemp("peft")
    home = folder / "bank"
    mood = write_task(folder / "mood.csv", "mood")
    pick = write_jsonl(folder / "pick.jsonl", choice_rows(80))
    grade = write_rows(folder / "grade.csv", value_rows(80), ("text", "label"))
    start = ["--home", home, "add", "--epochs", 2, "--backbone", backbone_folder("bert")]
    done(*start, "--task", "mood", "--data", mood)
    done(*start, "--task", "pick", "--data", pick, "--choices-column", "choices")
    done(*start, "--task", "grade", "--data", grade, "--kind", "regression", "--retrain-router")
    answer = done("--home", home, "--json", "export", folder / "peft", "--format", "peft")
    (folder / "answer.json").write_text(answer.out)
    done("--home", home, "export", folder / "bundle")
    return folder


@pytest.fixture
def exports(made_exports: Path, tmp_path: Path) -> Path:
    shutil.copytree(made_exports, tmp_path / "exports")
    return tmp_path / "exports"


def test_the_answer_names_the_experts_and_the_digest_of_the_manifest(made_exports: Path) -> None:
    answer = json.loads((made_exports / "answer.json").read_text())
    assert {"path", "format", "digest", "experts", "verified"} <= answer.keys()
    assert answer["format"] == "peft"
    assert answer["verified"] is True
    assert sorted(answer["experts"]) == ["grade@1", "mood@1", "pick@1"]
    assert answer["digest"] == content(Path(answer["path"]))["manifest.json"]


def test_the_manifest_lists_every_file_with_its_hash(made_exports: Path) -> None:
    manifest = json.loads((made_exports / "peft" / "manifest.json").read_text())
    found = {k: v for k, v in content(made_exports / "peft").items() if v != "folder"}
    expected = {f"{task}/{name}" for task in ("mood", "pick", "grade") for name in FILES}
    assert set(found) == expected | {"README.md", "manifest.json"}
    del found["manifest.json"]
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == found


def test_the_same_experts_give_the_same_bytes(made_exports: Path, tmp_path: Path) -> None:
    done("--home", made_exports / "bank", "export", tmp_path / "two", "--format", "peft")
    assert content(tmp_path / "two") == content(made_exports / "peft")


def test_the_configuration_names_only_modules_of_the_branch(made_exports: Path) -> None:
    config = json.loads((made_exports / "peft" / "mood" / "adapter_config.json").read_text())
    layers = {int(path.split(".")[2]) for path in config["target_modules"]}
    assert layers == {1, 2, 3}, "the route layer of a backbone of four layers is 1"
    assert config["base_model_name_or_path"] == "./backbone"
    assert config["lora_alpha"] == config["r"]
    assert config["modules_to_save"] is None
    assert config["inference_mode"] is True


def _answers_by_readme(folder: Path) -> Any:
    """The function that the folder's README defines, after running its lines there."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    with working_in(folder):
        exec(compile(code, str(folder / "README.md"), "exec"), names)
    return names["answer"]


def test_the_readmes_lines_answer_as_the_bank_does(
    exports: Path, made_exports: Path, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("peft")
    rows = {
        "mood": [{"text": text} for text, _ in task_rows("mood", 5, seed=7)],
        "grade": [{"text": text} for text, _ in value_rows(5, seed=7)],
        "pick": [{k: r[k] for k in ("text", "choices")} for r in choice_rows(5, seed=7)],
    }
    rows["mood"].append({"text": "sky blue", "text_pair": "a film"})
    for task, asked in rows.items():
        # The README asks for the backbone's folder, or a link to it, beside it.
        (exports / "peft" / task / "backbone").symlink_to(backbone)
        answer = _answers_by_readme(exports / "peft" / task)
        lines = "".join(json.dumps(row) + "\n" for row in asked).encode()
        home = ["--home", made_exports / "bank", "--json", "predict", "--task", task]
        expected = done(*home, "--file", "-", stdin=lines).lines
        for row, ours in zip(asked, expected, strict=True):
            theirs = answer(*row.values())
            if task == "grade":
                assert theirs == pytest.approx(float(ours["label"]), abs=1e-4)
            else:
                assert theirs == pytest.approx(ours["scores"], abs=1e-5)
    assert capsys.readouterr().out, "the README shows an answer"


def test_only_the_named_tasks_are_exported(made_exports: Path, tmp_path: Path) -> None:
    words = ["export", tmp_path / "one", "--format", "peft", "--task", "pick"]
    answer = done("--home", made_exports / "bank", "--json", *words)
    assert answer.document["experts"] == ["pick@1"]
    assert {path.name for path in (tmp_path / "one").iterdir() if path.is_dir()} == {"pick"}


def test_history_tells_of_the_export(made_exports: Path) -> None:
    events = done("--home", made_exports / "bank", "--json", "history").document["events"]
    assert any(event["kind"] == "exported" and "(peft)" in event["text"] for event in events)


def test_neither_format_replaces_the_other_and_each_replaces_itself(exports: Path) -> None:
    home = ["--home", exports / "bank", "export"]
    before = content(exports / "bundle"), content(exports / "peft")
    assert call(*home, exports / "bundle", "--format", "peft").code == 3
    assert call(*home, exports / "peft").code == 3
    assert (content(exports / "bundle"), content(exports / "peft")) == before
    done(*home, exports / "peft", "--format", "peft", "--task", "mood")
    assert "mood/README.md" in content(exports / "peft")
    assert "pick/README.md" not in content(exports / "peft")
    (exports / "peft" / "notes.txt").write_text("mine")
    assert call(*home, exports / "peft", "--format", "peft").code == 3
    assert not [path for path in exports.iterdir() if path.name.startswith(".")]


def test_a_folder_for_peft_is_not_taken_for_a_bundle(made_exports: Path) -> None:
    answer = call("predict", "sky", "--bundle", made_exports / "peft")
    assert answer.code == 13
    assert "--format peft" in answer.err


def test_factors_that_do_not_come_back_as_the_experts_are_never_published(
    made_exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from expertbank.workflows.shipping import export_peft

    real = export_peft.lora_tensors

    def off_by_a_bit(factors: Any) -> dict[str, torch.Tensor]:
        tensors = real(factors)
        tensors[next(iter(tensors))][0, 0] += 1e-6
        return tensors

    monkeypatch.setattr(export_peft, "lora_tensors", off_by_a_bit)
    answer = call("--home", made_exports / "bank", "export", tmp_path / "x", "--format", "peft")
    assert answer.code == 13
    assert "does not hold the expert" in answer.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--format", "onnx"], ["--format", "peft", "--with-backbone"]])
def test_what_the_format_cannot_do_exits_2(
    words: list[str], made_exports: Path, tmp_path: Path
) -> None:
    assert call("--home", made_exports / "bank", "export", tmp_path / "x", *words).code == 2
    assert not (tmp_path / "x").exists()


# -- what the receiver is told of the backbone ---------------------------------------------


def test_no_file_carries_a_path_of_the_makers_machine(made_exports: Path) -> None:
    for path in (made_exports / "peft").rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        for secret in (made_exports, made_exports.parent, Path.home(), tempfile.gettempdir()):
            assert os.fsencode(secret) not in data, f"{secret} in {path}"


def test_the_readmes_say_which_digest_is_needed_and_where_the_backbone_goes(
    made_exports: Path,
) -> None:
    manifest = json.loads((made_exports / "peft" / "manifest.json").read_text())
    digest = manifest["backbone"]["digest"]
    assert digest in (made_exports / "peft" / "README.md").read_text()
    text = (made_exports / "peft" / "mood" / "README.md").read_text()
    assert digest in text
    assert "into this folder as `backbone`" in text


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ("org/tiny-bert", "org/tiny-bert"),
        ("./out/tiny", "./backbone"),
        ("/home/maker/tiny", "./backbone"),
        ("C:\\maker\\tiny", "./backbone"),
        ("tiny", "./backbone"),
        ("", "./backbone"),
    ],
)
def test_a_folders_own_hub_name_is_written_where_it_has_one(
    told: str, named: str, backbone: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(backbone, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_name_or_path": told}))
    assert public_name(str(folder), folder) == named
    assert public_name("org/name@main", folder) == "org/name"
