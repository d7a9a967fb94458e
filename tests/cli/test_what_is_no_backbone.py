"""What people give as a backbone by mistake: one sentence says what it is and what to give."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from command_line import call

from expertbank.backbones.backbone import load_backbone
from expertbank.errors import NoBackboneError


def adapter(folder: Path, whole: Path) -> Path:
    peft = pytest.importorskip("peft")
    from transformers import AutoModel

    model = AutoModel.from_pretrained(whole)
    config = peft.LoraConfig(target_modules=["query"], base_model_name_or_path="org/base")
    peft.get_peft_model(model, config).save_pretrained(folder)
    content = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps({**content, "base_model_name_or_path": "org/base"})
    )
    return folder


def adapter_with_its_tokenizer(folder: Path, whole: Path) -> Path:
    shutil.copy(whole / "tokenizer.json", adapter(folder, whole))
    return folder


def tokenizer(folder: Path, whole: Path) -> Path:
    tiny.tokenizer().save_pretrained(folder)
    return folder


def sentence_transformer(folder: Path, whole: Path) -> Path:
    shutil.copytree(whole, folder / "0_Transformer")
    modules = [{"idx": 0, "name": "0", "path": "0_Transformer"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def training_output(folder: Path, whole: Path) -> Path:
    shutil.copytree(whole, folder / "checkpoint-500")
    return folder


def pickles(folder: Path, whole: Path) -> Path:
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return folder


def onnx(folder: Path, whole: Path) -> Path:
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    (folder / "onnx").mkdir()
    (folder / "model.safetensors").rename(folder / "onnx" / "model.onnx")
    return folder


def without_config(folder: Path, whole: Path) -> Path:
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    (folder / "config.json").unlink()
    return folder


def without_weights(folder: Path, whole: Path) -> Path:
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    (folder / "model.safetensors").unlink()
    return folder


def empty(folder: Path, whole: Path) -> Path:
    return folder


def gguf(folder: Path, whole: Path) -> Path:
    (folder / "model-q4.gguf").write_bytes(b"GGUF" + bytes(60))
    return folder / "model-q4.gguf"


def folder_of_gguf(folder: Path, whole: Path) -> Path:
    return gguf(folder, whole).parent


def folder_of_ggufs(folder: Path, whole: Path) -> Path:
    for name in ("a.gguf", "b.gguf"):
        (folder / name).write_bytes(b"GGUF" + bytes(60))
    return folder


def weights_file(folder: Path, whole: Path) -> Path:
    return Path(shutil.copy(whole / "model.safetensors", folder))


def text_file(folder: Path, whole: Path) -> Path:
    (folder / "notes.txt").write_text("bert-base")
    return folder / "notes.txt"


MISTAKES: dict[Callable[[Path, Path], Path], tuple[str, ...]] = {
    adapter: ("is an adapter", "'org/base'", "merge_and_unload"),
    adapter_with_its_tokenizer: ("is an adapter", "'org/base'", "merge_and_unload"),
    tokenizer: ("holds a tokenizer and no model",),
    sentence_transformer: ("sentence-transformers", "0_Transformer"),
    training_output: ("checkpoint-500", "give one of them"),
    pickles: ("pickles", "model.safetensors", "save_pretrained"),
    onnx: ("ONNX", "save_pretrained"),
    without_config: ("holds no config.json",),
    without_weights: ("holds no weights",),
    empty: ("is an empty folder",),
    gguf: ("is no whole GGUF file", "download it again"),
    folder_of_gguf: ("is no whole GGUF file",),
    folder_of_ggufs: ("holds GGUF files", "give one of them", "'a.gguf'"),
    weights_file: ("is one file of a model", "give the folder"),
    text_file: ("is a file, not a folder",),
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: one.__name__)
def test_it_is_told_by_what_it_is_and_nothing_is_written(
    mistake: Callable[[Path, Path], Path], backbone: Path, tmp_path: Path
) -> None:
    (tmp_path / "given").mkdir()
    given = mistake(tmp_path / "given", backbone)
    answer = call("--home", tmp_path / "bank", "init", "--backbone", given)
    assert answer.code == 2, answer.err
    assert "Traceback" not in answer.err
    said = " ".join(answer.err.split())
    for part in (str(given), *MISTAKES[mistake]):
        assert part in said
    assert not (tmp_path / "bank").exists()
    with pytest.raises(NoBackboneError):
        load_backbone(str(given))


def test_a_bundle_names_the_backbone_of_its_experts(
    made_bank: Path, backbone: Path, tmp_path: Path
) -> None:
    answer = call("--home", tmp_path / "bank", "init", "--backbone", made_bank / "bundle")
    assert answer.code == 2
    assert str(backbone) in answer.err
    assert "--bundle" in answer.err


def test_a_banks_folder_is_told_from_a_model(made_bank: Path, tmp_path: Path) -> None:
    answer = call("--home", tmp_path / "bank", "init", "--backbone", made_bank / "bank")
    assert answer.code == 2
    assert "is the folder of a bank" in answer.err


def test_no_name_at_all_is_bad_input(tmp_path: Path) -> None:
    answer = call("--home", tmp_path / "bank", "init", "--backbone", "")
    assert answer.code == 2
    assert not (tmp_path / "bank").exists()


def test_a_bank_may_stand_in_its_backbones_own_folder(backbone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(backbone, tmp_path / "both")
    for _ in range(2):
        assert call("--home", folder, "init", "--backbone", folder).code == 0
    assert load_backbone(str(folder), device="cpu").digest
