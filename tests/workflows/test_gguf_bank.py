"""The whole job over a GGUF file: a bank, its bundles with and without the file, and its checks."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_bank import add, content, texts

from expertbank import AdapterConfig, Bank, Row, load_bundle
from expertbank.adapters import gguf as adapter_files
from expertbank.backbones.gguf_header import read_header
from expertbank.errors import ExpertBankError, InputError, IntegrityError

pytest.importorskip("gguf", reason="package gguf (extra gguf) is not installed")

import gguf_files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of two tasks and its exports; never write to it."""
    folder = tmp_path_factory.mktemp("gguf")
    file = gguf_files.write(folder / "tiny.gguf", packed=True)
    with Bank.open(folder / "bank", backbone=str(file), device="cpu") as bank:
        bank.init(max_length=64)
        for task in ("films", "laws"):
            add(bank, task, folder)
        bank.retrain_router()
        bank.export(folder / "thin")
        bank.export(folder / "whole", with_backbone=True)
        bank.export(folder / "peft", format="peft")
        bank.export(folder / "llama", format="gguf")
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "copy")


def answers(predictor: Any) -> list[tuple[str, Any, dict[str, float]]]:
    found = predictor.predict([Row(text) for text in texts(12)])
    return [(one.task, one.label, dict(one.scores)) for one in found]


def test_bank_and_bundles_answer_alike_the_whole_one_without_the_first_file(
    made: Path, copy: Path
) -> None:
    with Bank.open(made / "bank", read_only=True, device="cpu") as bank:
        expected = answers(bank)
        assert bank.backbone().reference == str(made / "tiny.gguf")
    assert answers(load_bundle(made / "thin", device="cpu")) == expected
    assert {path.name for path in (copy / "whole" / "backbone").iterdir()} == {"tiny.gguf"}
    (copy / "tiny.gguf").unlink()
    assert answers(load_bundle(copy / "whole", device="cpu")) == expected
    file = made / "tiny.gguf"
    thin = load_bundle(copy / "thin", backbone=str(file), device="cpu")
    assert answers(thin) == expected


def test_no_bundle_tells_where_the_file_stood(made: Path) -> None:
    for folder in ("whole", "peft", "llama"):
        for path in (made / folder).rglob("*"):
            if path.is_file():
                assert str(made).encode() not in path.read_bytes(), path


def test_a_bundle_is_imported_into_a_bank_over_the_same_file(made: Path, tmp_path: Path) -> None:
    with Bank.open(made / "bank", read_only=True, device="cpu") as bank:
        bank.export(tmp_path / "importable", for_import=True)
        first = {expert.id: expert.digest for expert in bank.experts()}
    file = str(made / "tiny.gguf")
    with Bank.open(tmp_path / "second", backbone=file, device="cpu") as other:
        other.import_bundle(tmp_path / "importable")
        assert {expert.id: expert.digest for expert in other.experts()} == first


def test_checks_find_the_file_and_what_changed_in_it(copy: Path) -> None:
    moved = copy / "tiny.gguf"
    with Bank.open(copy / "bank", backbone=str(moved), device="cpu") as bank:
        assert not bank.verify().problems
        assert not [one for one in bank.doctor(rehash=True).findings if one.state == "problem"]
    data = bytearray(moved.read_bytes())
    data[-5] ^= 4
    moved.write_bytes(data)
    with Bank.open(copy / "bank", backbone=str(moved), device="cpu") as bank:
        (problem,) = bank.verify().problems
        assert "the backbone has digest" in problem.what
        with pytest.raises(IntegrityError, match="digest"):
            bank.predict(["sky"])


def test_a_file_that_is_cut_short_is_bad_input_to_a_new_bank_and_damage_to_one_that_has_it(
    tmp_path: Path,
) -> None:
    file = gguf_files.write(tmp_path / "tiny.gguf")
    with Bank.open(tmp_path / "bank", backbone=str(file), device="cpu") as bank:
        bank.init(max_length=32)
    file.write_bytes(file.read_bytes()[:-5000])
    codes = {}
    for name in ("bank", "another"):
        own = {} if name == "bank" else {"backbone": str(file)}
        with Bank.open(tmp_path / name, device="cpu", **own) as bank:
            with pytest.raises(ExpertBankError, match="cut short") as raised:
                add(bank, "films", tmp_path)
            codes[name] = raised.value.exit_code
    assert codes == {"bank": 13, "another": 2}


def test_the_export_for_peft_answers_by_its_readmes_lines(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from places import working_in

    folder = shutil.copytree(made / "peft" / "films", tmp_path / "films")
    (folder / "backbone").mkdir()
    shutil.copy(made / "tiny.gguf", folder / "backbone")
    told = (folder / "README.md").read_text()
    assert "put it into a folder" in told
    (code,) = re.findall(r"```python\n(.*?)```", told, re.DOTALL)
    names: dict[str, Any] = {}
    with working_in(folder):
        exec(compile(code, "README.md", "exec"), names)
    with Bank.open(made / "bank", read_only=True, device="cpu") as bank:
        for ours in bank.predict([Row(text) for text in texts(4)], task="films"):
            with torch.no_grad():
                theirs = names["answer"](texts(4)[ours.index])
            assert theirs == pytest.approx(dict(ours.scores), abs=1e-5)


# -- adapters for llama.cpp ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lora", "uni-lora"])
def test_experts_of_every_kind_are_written_for_llama_cpp(kind: str, tmp_path: Path) -> None:
    file = gguf_files.write(tmp_path / "tiny.gguf")
    with Bank.open(tmp_path / "bank", backbone=str(file)) as bank:
        bank.init(max_length=32)
        add(bank, "films", tmp_path, adapter=AdapterConfig(kind=kind))
        bank.retrain_router()
        bank.export(tmp_path / "out", format="gguf")
    assert (tmp_path / "out" / "films" / "adapter.gguf").is_file()


def test_every_expert_is_written_for_llama_cpp_with_the_head_of_the_export_for_peft(
    made: Path,
) -> None:
    names = ("README.md", "adapter.gguf", "head.safetensors")
    listed = {f"{task}/{name}" for task in ("films", "laws") for name in names}
    found = content(made / "llama")
    assert found.keys() == {*listed, "README.md", "manifest.json"}
    assert found["laws/head.safetensors"] == content(made / "peft")["laws/head.safetensors"]
    values = read_header(made / "llama" / "films" / "adapter.gguf").values
    assert values["general.architecture"] == "llama"
    assert values["general.name"] == "films@1"
    assert "`tiny.gguf`" in (made / "llama" / "films" / "README.md").read_text()


def test_an_export_for_llama_cpp_says_what_it_does_and_the_same_expert_gives_the_same_bytes(
    made: Path, tmp_path: Path
) -> None:
    with Bank.open(made / "bank", read_only=True, device="cpu") as bank:
        told = bank.export(tmp_path / "one", format="gguf", tasks=("films",))
        digest = bank.backbone().digest
    (effect,) = told.effects
    assert effect["model"] == "LlamaForCausalLM"
    assert effect["effect"] > 1e-3
    assert effect["error"] <= effect["tolerance"] == 1e-4
    first, again = content(made / "llama"), content(tmp_path / "one")
    assert again["films/adapter.gguf"] == first["films/adapter.gguf"]
    values = read_header(tmp_path / "one" / "films" / "adapter.gguf").values
    assert values["expertbank.backbone_digest"] == digest


def test_what_is_not_to_be_written_for_llama_cpp_leaves_nothing_behind(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Bank.open(made / "bank", read_only=True, device="cpu") as bank:
        with pytest.raises(InputError, match="--format gguf writes adapters only"):
            bank.export(tmp_path / "out", format="gguf", with_backbone=True)
        with monkeypatch.context() as absent:
            absent.setitem(sys.modules, "gguf", None)
            with pytest.raises(InputError, match=r"pip install 'expertbank\[gguf\]'"):
                bank.export(tmp_path / "out", format="gguf")
        monkeypatch.setattr(adapter_files, "interleaved", lambda rows, heads: rows)
        with pytest.raises(IntegrityError, match="does not hold the expert; nothing was publi"):
            bank.export(tmp_path / "out", format="gguf", tasks=("films",))
    assert list(tmp_path.iterdir()) == []
