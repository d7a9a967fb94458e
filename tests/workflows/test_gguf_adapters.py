"""Adapters for llama.cpp hold the expert, in the places and the order that base files have."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from expertbank.adapters import gguf as adapter_files
from expertbank.adapters.slots import Factors
from expertbank.adapters.targets import adaptable_modules
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.backbones.causal import Around, as_loaded_elsewhere
from expertbank.backbones.gguf_header import read_header
from expertbank.errors import IntegrityError, UnsupportedModelError
from expertbank.references import Place

pytest.importorskip("gguf", reason="package gguf (extra gguf) is not installed")

import gguf
import gguf_files

IDS = torch.tensor([[70, 4, 259, 33, 91, 8, 12], [9, 9, 200, 131, 5, 77, 40]])
READ = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")


def random_update(around: Around) -> Factors:
    """An update of every linear module above the first layer, of ranks 2 and 3."""
    generator, found = torch.Generator().manual_seed(5), {}
    backbone = around.backbone
    modules = adaptable_modules(backbone.model, backbone.family, 1)
    for number, (path, (inputs, outputs)) in enumerate(modules.items()):
        a, b = torch.randn(inputs, 2 + number % 2), torch.randn(2 + number % 2, outputs)
        a.normal_(0, 0.1, generator=generator)
        b.normal_(0, 0.3, generator=generator)
        found[f"{around.prefix}{path}"] = a, b
    return found


def written(file: Path, around: Around, factors: Factors) -> Path:
    values = {"general.architecture": adapter_files.architecture_of(around)}
    adapter_files.write_adapter(file, factors, adapter_files.stored_as(around), values)
    return file


def added_to(base: Path, adapter: Path, merged: Path) -> Path:
    """A copy of a base file with an adapter added to its tensors, by names and shapes alone."""
    held = {tensor.name: tensor.data for tensor in gguf.GGUFReader(str(adapter)).tensors}
    alpha = read_header(adapter).values["adapter.lora.alpha"]
    shutil.copy(base, merged)
    for tensor in gguf.GGUFReader(str(merged), "r+").tensors:
        a = held.pop(f"{tensor.name}.lora_a", None)
        if a is not None:
            b = held.pop(f"{tensor.name}.lora_b")
            tensor.data[...] += alpha / a.shape[0] * b @ a
    assert not held, "every factor belongs to a tensor of the base file"
    return merged


@torch.no_grad()
def update(around: Around, factors: Factors) -> None:
    """Add it to the weights of the model themselves."""
    for path, (a, b) in factors.items():
        around.model.get_submodule(path).weight += (a @ b).T


@torch.no_grad()
def states(backbone: Backbone) -> torch.Tensor:
    found: torch.Tensor = backbone.model(input_ids=IDS).last_hidden_state
    return found


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_added_to_the_tensors_of_its_base_file_it_changes_the_model_as_the_update_does(
    architecture: str, tmp_path: Path
) -> None:
    """Every kind of projection; Llama's queries and keys, of which there are fewer, permuted."""
    base = gguf_files.write(tmp_path / "tiny.gguf", architecture)
    backbone = load_backbone(str(base), device="cpu")
    bare = states(backbone)
    around = as_loaded_elsewhere(backbone)
    factors = random_update(around)
    adapter = written(tmp_path / "adapter.gguf", around, factors)
    update(around, factors)
    wanted = states(backbone)
    merged = added_to(base, adapter, tmp_path / "merged.gguf")
    found = states(load_backbone(str(merged), device="cpu"))
    assert (wanted - bare).abs().max() > 0.1
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_llama_cpp_gives_the_states_of_the_updated_model_with_it(
    architecture: str, tmp_path: Path
) -> None:
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    base = gguf_files.write(tmp_path / "tiny.gguf", architecture)
    backbone = load_backbone(str(base), device="cpu")
    around = as_loaded_elsewhere(backbone)
    factors = random_update(around)
    adapter = written(tmp_path / "adapter.gguf", around, factors)
    options = {"embedding": True, "pooling_type": 0, "type_k": 0, "type_v": 0, "n_threads": 1}
    model = llama_cpp.Llama(str(base), lora_path=str(adapter), verbose=False, **options)
    found = torch.tensor(model.embed("the river is red", normalize=False))
    model.close()
    ids = backbone.tokenizer("the river is red", return_tensors="pt").input_ids
    with torch.no_grad():
        bare = backbone.model(input_ids=ids).last_hidden_state[0]
        update(around, factors)
        wanted = backbone.model(input_ids=ids).last_hidden_state[0]
    assert (wanted - bare).abs().max() > 0.1
    assert torch.allclose(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", READ)
def test_it_comes_back_bit_for_bit_under_llama_cpps_names(
    family: str, load_tiny: Any, tmp_path: Path
) -> None:
    around = as_loaded_elsewhere(load_tiny(family))
    factors = random_update(around)
    file = written(tmp_path / "adapter.gguf", around, factors)
    found = adapter_files.read_adapter(file, adapter_files.stored_as(around))
    assert found.keys() == factors.keys()
    for path, (a, b) in factors.items():
        own = a.shape[1]
        assert torch.equal(found[path][0][:, :own], a)
        assert torch.equal(found[path][1][:own], b)
        assert not found[path][0][:, own:].any()
    header = read_header(file)
    told = {key: header.values[key] for key in ("general.type", "adapter.type")}
    assert told == {"general.type": "adapter", "adapter.type": "lora"}
    assert header.values["adapter.lora.alpha"] == 3.0
    names = {tensor.name.partition(".")[2].partition(".")[2] for tensor in header.tensors}
    places = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    assert names == {f"{place}.weight.lora_{end}" for place in places for end in "ab"}
    assert {tensor.name.split(".")[1] for tensor in header.tensors} == {"1", "2", "3"}


@pytest.mark.parametrize("family", ["bert", "gpt2", "phi3", "falcon", "opt", "smollm3"])
def test_a_family_whose_places_are_not_known_is_refused_in_one_line(
    family: str, load_tiny: Any
) -> None:
    around = as_loaded_elsewhere(load_tiny(family))
    for refused in (adapter_files.architecture_of, adapter_files.stored_as):
        with pytest.raises(UnsupportedModelError, match=f"of type '{family}'") as raised:
            refused(around)
        assert "\n" not in str(raised.value)
        assert "--format peft" in str(raised.value)


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [("gemma3_text", "use_bidirectional_attention", True), ("llama", "is_causal", False)],
)
def test_a_decoder_that_reads_both_ways_is_refused_as_llama_cpp_would_run_it_causally(
    family: str, field: str, value: bool, backbone_folder: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "backbone"
    shutil.copytree(backbone_folder(family), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, field: value}))
    around = as_loaded_elsewhere(load_backbone(str(folder), device="cpu"))
    for refused in (adapter_files.architecture_of, adapter_files.stored_as):
        with pytest.raises(UnsupportedModelError, match=r"after it.*--format peft") as raised:
            refused(around)
        assert "\n" not in str(raised.value)


def test_a_base_file_of_another_architecture_than_the_adapters_is_refused(
    load_tiny: Any, tmp_path: Path
) -> None:
    """llama.cpp compares the names."""
    around = as_loaded_elsewhere(load_tiny("llama"))
    place = Place(gguf_files.write(tmp_path / "tiny.gguf", "qwen2"))
    elsewhere = replace(around, backbone=replace(around.backbone, place=place))
    with pytest.raises(UnsupportedModelError, match=r"'qwen2'.*'llama'"):
        adapter_files.stored_as(elsewhere)


def test_a_module_that_the_base_file_does_not_hold_is_refused(
    load_tiny: Any, tmp_path: Path
) -> None:
    around = as_loaded_elsewhere(load_tiny("llama"))
    factors = random_update(around)
    stored = adapter_files.stored_as(around)
    del stored["model.layers.2.mlp.up_proj"]
    with pytest.raises(UnsupportedModelError, match=r"no tensor for model\.layers\.2\.mlp\.up_pr"):
        adapter_files.write_adapter(tmp_path / "a", factors, stored, {"general.architecture": "x"})
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (("blk.1.attn_q.weight.lora_a",), "do not fit each other"),
        (("blk.9.attn_q.weight.lora_a", "blk.9.attn_q.weight.lora_b"), "no module of the backbone"),
        (("blk.1.attn_q.weight",), "no module of the backbone"),
    ],
)
def test_what_llama_cpp_would_not_load_is_not_read(
    names: tuple[str, ...], complaint: str, load_tiny: Any, tmp_path: Path
) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "a"), "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 1.0)
    for name in names:
        writer.add_tensor(name, torch.ones(1, 32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    stored = adapter_files.stored_as(as_loaded_elsewhere(load_tiny("llama")))
    with pytest.raises(IntegrityError, match=complaint):
        adapter_files.read_adapter(tmp_path / "a", stored)


def test_a_base_file_is_not_read_as_an_adapter(load_tiny: Any, tmp_path: Path) -> None:
    stored = adapter_files.stored_as(as_loaded_elsewhere(load_tiny("llama")))
    with pytest.raises(IntegrityError, match="no LoRA adapter"):
        adapter_files.read_adapter(gguf_files.write(tmp_path / "tiny.gguf"), stored)
