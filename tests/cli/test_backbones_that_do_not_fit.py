"""init and add refuse a backbone that cannot work; a bank that has one tells, and names the row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from command_line import Answer, call, content, done, write_csv, write_task
from transformers import AutoTokenizer

from expertbank.workflows.held_backbone import HeldBackbone


@pytest.fixture
def padded(tmp_path: Path) -> Path:
    """GPT-2 with an added pad token, and no embedding for it."""
    folder = tiny.build(tmp_path / "gpt2", "gpt2")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<new pad>"})
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def worded(tmp_path: Path) -> Path:
    """BERT with two added words, and no embedding for them."""
    folder = tiny.build(tmp_path / "bert", "bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["quark", "gluon"])
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def unchecked() -> Iterator[None]:
    """As expertbank was before the check."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeldBackbone, "require_agreement", lambda self, loaded: None)
        yield


def finding(home: Path, subject: str) -> dict[str, str]:
    answer = call("--home", home, "--json", "doctor")
    return next(f for f in answer.document["findings"] if f["subject"] == subject)


def require_refused(answer: Answer, *said: str) -> None:
    assert answer.code == 2, answer.err
    assert "Traceback" not in answer.err
    for part in said:
        assert part in " ".join(answer.err.split())


def test_init_refuses_at_once_and_writes_nothing(padded: Path, tmp_path: Path) -> None:
    answer = call("--home", tmp_path / "bank", "init", "--backbone", padded)
    require_refused(answer, "'<new pad>' is number 38", "resize_token_embeddings(39)", str(padded))
    assert not (tmp_path / "bank").exists()


def test_add_that_would_make_the_bank_refuses_and_writes_nothing(
    worded: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "mood.csv", "mood")
    add = ["add", "--task", "mood", "--data", data, "--backbone", worded]
    require_refused(call("--home", tmp_path / "bank", *add), "'quark' is number 38 (and 1 more)")
    assert not (tmp_path / "bank").exists()


def test_a_length_beyond_the_positions_is_refused_with_the_right_one(tmp_path: Path) -> None:
    folder, home = tiny.build(tmp_path / "roberta", "roberta"), tmp_path / "bank"
    answer = call("--home", home, "init", "--backbone", folder, "--max-length", "63")
    require_refused(answer, "63", "62 tokens")
    assert not home.exists()
    record = done("--home", home, "--json", "init", "--backbone", folder).document
    assert record["feature_spec"]["max_length"] == 62


def test_doctor_says_that_they_fit_and_does_not_try_again(
    bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(backbone: object) -> str:
        raise AssertionError("it is remembered")

    monkeypatch.setattr("expertbank.models.agreement.disagreement", never)
    assert finding(bank, "model and tokenizer")["state"] == "ok"


def test_a_bank_from_before_the_check_reads_tells_and_names_the_row(
    unchecked: None, worded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, data = tmp_path / "bank", write_task(tmp_path / "mood.csv", "mood")
    add = ["add", "--task", "mood", "--data", data, "--backbone", worded, "--epochs", 1]
    done("--home", home, *add, "--retrain-router")
    monkeypatch.undo()
    (home / "backbone-digests.json").unlink()
    for words in (["list"], ["show", "mood"], ["verify"], ["history"]):
        done("--home", home, *words)
    assert finding(home, "model and tokenizer")["state"] == "problem"
    assert "'quark'" in finding(home, "model and tokenizer")["found"]
    done("--home", home, "predict", "a good film")
    require_refused(call("--home", home, "predict", "a good quark"), "text 1", "token number 38")
    lines = b'{"text": "a good film"}\n{"text": "one gluon"}\n{"text": "a bad plot"}\n'
    (tmp_path / "rows.jsonl").write_bytes(lines)
    ask = ["--home", home, "--json", "predict", "--file", tmp_path / "rows.jsonl"]
    require_refused(call(*ask), "rows.jsonl:2", "39")
    answer = call(*ask, "--skip-bad")
    assert [line["index"] for line in answer.lines] == [0, 2]
    assert "rows.jsonl:2" in answer.err
    bad = write_csv(tmp_path / "new.csv", [("a quark", "good")], ("text", "label"))
    evaluate = ["evaluate", "--task", "mood", "--data", bad]
    require_refused(call("--home", home, *evaluate), "new.csv:2")


def test_a_bank_from_before_the_check_grows_no_further(worded: Path, tmp_path: Path) -> None:
    home, data = tmp_path / "bank", write_task(tmp_path / "mood.csv", "mood")
    with pytest.MonkeyPatch.context() as before:
        before.setattr(HeldBackbone, "require_agreement", lambda self, loaded: None)
        done("--home", home, "init", "--backbone", worded)
    before_add = content(home)
    require_refused(call("--home", home, "add", "--task", "mood", "--data", data), "'quark'")
    assert {name for name in content(home) if name.startswith("objects")} == set()
    assert content(home)["registry.db"] == before_add["registry.db"]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """GPT-2 whose tokenizer puts nothing around a text, and drops what it does not know."""
    folder = tiny.build(tmp_path / "bare", "gpt2")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["post_processor"] = None
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "\u00b6"}, "content": ""}
    path.write_text(json.dumps(tokenizer))
    return folder


def test_a_row_that_becomes_no_token_is_named(bare: Path, tmp_path: Path) -> None:
    home, data = tmp_path / "bank", write_task(tmp_path / "mood.csv", "mood")
    add = ["--home", home, "add", "--task", "mood", "--epochs", 1, "--backbone", bare]
    rows = data.read_text().splitlines()
    (tmp_path / "bad.csv").write_text("\n".join([*rows[:5], "\u00b6,good", *rows[5:]]) + "\n")
    require_refused(call(*add, "--data", tmp_path / "bad.csv"), "bad.csv:6", "no token")
    done(*add, "--data", data, "--retrain-router")
    require_refused(call("--home", home, "predict", "\u00b6"), "text 1", "no token")
    lines = '{"text": "\u00b6"}\n{"text": "a good film"}\n'.encode()
    ask = ["--home", home, "--json", "predict", "--file", "-", "--skip-bad"]
    answer = call(*ask, stdin=lines)
    assert [line["index"] for line in answer.lines] == [1]
    assert "no token" in answer.err


def test_backbone_elsewhere_is_held_to_the_digest_and_so_to_the_check(
    bank: Path, backbone: Path, worded: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(backbone, tmp_path / "copied")
    done("--home", bank, "predict", "a good film", "--backbone", copied)
    assert call("--home", bank, "predict", "a good film", "--backbone", worded).code == 13
