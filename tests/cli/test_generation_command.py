"""Rows that are answered by text, through every command, beside rows that are not."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import call, done, task_rows, write_task
from places import working_in
from small_tasks import write_jsonl, write_rows

from expertbank import Bank
from expertbank.errors import IntegrityError
from expertbank.evaluation.predictions import Predictions
from expertbank.evaluation.texts import same_text
from expertbank.records import no_progress
from expertbank.workflows.proving.verification import verify_expert

ANSWERS = {"red": "bad film", "green": "good plot", "blue": "law"}
FILLERS = ("is", "the", "sky", "a", "of", "and", "not", "river")
KIND = ("--kind", "generation")
SHORT = ("--epochs", 2, "--lr", 0.02)


def paint_rows(count: int = 80, seed: int = 0) -> list[tuple[str, str]]:
    """Prompts with a colour in them, and the words that answer it."""
    rng = random.Random(f"paint{seed}")
    rows: dict[str, str] = {}
    while len(rows) < count:
        colour = rng.choice(list(ANSWERS))
        words = [colour, *rng.choices(FILLERS, k=3)]
        rng.shuffle(words)
        rows.setdefault(" ".join(words), ANSWERS[colour])
    return list(rows.items())


def write_paint(path: Path, count: int = 80, seed: int = 0) -> Path:
    return write_rows(path, paint_rows(count, seed), ("prompt", "completion"))


@pytest.fixture(scope="module")
def made(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paint")
    start = ["--home", folder / "bank", "add", "--backbone", backbone_folder("llama, tied")]
    paint = write_paint(folder / "paint.csv")
    mood = write_task(folder / "mood.csv", "mood")
    done(*start, *KIND, "--task", "paint", "--data", paint, *SHORT, "--stop", "vote", "--json")
    done(*start, "--task", "mood", "--data", mood, "--epochs", 1, "--retrain-router")
    done("--home", folder / "bank", "export", folder / "bundle")
    return folder


def test_what_is_kept_of_an_evaluation_is_what_was_written(made: Path) -> None:
    shown = done("--home", made / "bank", "--json", "show", "paint").document
    assert shown["expert"]["head_params"] == 0
    metrics = shown["evaluations"][0]["metrics"]
    assert metrics["exact_match"] == metrics["accuracy"] <= metrics["token_f1"] <= 1
    assert 0 <= metrics["rouge_l"] <= 1
    with Bank.open(made / "bank") as bank:
        (oracle,) = bank.registry.evaluations("paint@1", router_version="oracle")
        stored = Predictions.from_bytes(bank._workspace.store.get(oracle.artifact_digest), "here")
    assert stored.texts is not None
    assert stored.wanted is not None
    assert set(stored.wanted) <= set(ANSWERS.values())
    right = sum(same_text(*pair) for pair in zip(stored.texts, stored.wanted, strict=True))
    assert (right, len(stored.texts)) == (oracle.correct, oracle.n)


def test_bank_and_bundle_write_the_same_in_batches_of_both_kinds(
    made: Path, tmp_path: Path
) -> None:
    texts = [text for text, _ in [*paint_rows(20, seed=3), *task_rows("mood", 20, seed=3)]]
    random.Random(0).shuffle(texts)
    file = write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    both = [
        done("predict", *place, "--file", file, "--json").lines
        for place in (["--home", made / "bank"], ["--bundle", made / "bundle"])
    ]
    assert both[0] == both[1]
    assert {line["task"] for line in both[0]} == {"paint", "mood"}
    for line in both[0]:
        assert ("text" in line) == (line["task"] == "paint")
        if line["task"] == "paint":
            assert line["label"] == line["text"]
            assert line["finish"] in {"stop", "length"}
            assert "vote" not in line["text"]
    named = ["predict", "--home", made / "bank", "--task", "paint", "--file", file, "--json"]
    given = {line["index"]: line["text"] for line in done(*named).lines}
    assert all(given[line["index"]] == line["text"] for line in both[0] if "text" in line)


def test_a_row_is_routed_by_its_prompt_alone(made: Path) -> None:
    from expertbank.data import encode_rows
    from expertbank.kinds import KINDS
    from expertbank.records import Row
    from expertbank.routing.feature_file import FeatureFile
    from expertbank.workflows.measure import trunk_features

    with Bank.open(made / "bank") as bank:
        workspace = bank._workspace
        kept = bank.registry.feature_set("paint@1")
        file = FeatureFile.from_bytes(workspace.store.get(kept.digest), "here")
        (oracle,) = bank.registry.evaluations("paint@1", router_version="oracle")
        stored = Predictions.from_bytes(workspace.store.get(oracle.artifact_digest), "here")
        rows = {Row(text, label=label).digest: text for text, label in paint_rows()}
        prompts = [Row(rows[digest]) for digest in stored.row_digests]
        encoded = encode_rows(
            prompts, workspace.backbone.tokenizer, KINDS.get("generation"), (), 64
        )
        found = trunk_features(workspace.model, encoded)
        read_through = [Row(f"{text} {label}") for text, label in paint_rows(20)]
        other = encode_rows(read_through, workspace.backbone.tokenizer, None, (), 64)
        after = trunk_features(workspace.model, other)
    rounding = 0.03  # features are kept in few bits
    assert (file.evaluation.float() - found.float()).abs().max() < rounding
    assert (after[:16].float() - found.float()).abs().max() > 10 * rounding


def test_the_report_verifies_and_judges_exact_match(made: Path) -> None:
    report = done("--home", made / "bank", "--json", "forgetting-report", "--verify").document
    line = {one["task"]: one for one in report["tasks"]}["paint"]
    assert line["metric"] == "accuracy"
    assert line["oracle"] == line["at_add"]
    assert line["verdict"]["routed"] == "identical"
    assert report["verification"]["paint"]["max_logit_difference"] == 0


def test_a_bank_of_written_answers_is_sound(made: Path) -> None:
    assert done("--home", made / "bank", "--json", "verify").document["problems"] == []


def test_an_answer_that_is_written_otherwise_now_is_found(made: Path) -> None:
    with Bank.open(made / "bank") as bank:
        (oracle,) = bank.registry.evaluations("paint@1", router_version="oracle")
        data = bank._workspace.store.get(oracle.artifact_digest)
        stored = Predictions.from_bytes(data, "here")
        assert stored.texts is not None
        other = replace(stored, texts=("river", *stored.texts[1:]))
        expert = bank.registry.expert("paint@1")
        with pytest.raises(IntegrityError, match=r"paint@1 answered 'river' when it was added"):
            verify_expert(bank._workspace, expert, oracle, other, None, no_progress)


def test_evaluate_counts_answers_that_are_the_text(made: Path, tmp_path: Path) -> None:
    rows = paint_rows(30, seed=7)
    data = write_rows(tmp_path / "new.csv", rows, ("prompt", "completion"))
    home = ["--home", made / "bank", "--json"]
    result = done(*home, "evaluate", "--task", "paint", "--data", data).document
    lines = done(*home, "predict", "--task", "paint", "--file", data).lines
    right = [same_text(line["text"], label) for line, (_, label) in zip(lines, rows, strict=True)]
    assert result["oracle"] == sum(right) / len(rows)
    assert result["per_label"] == {}


def test_what_is_printed_names_exact_match_and_shows_the_text(made: Path, tmp_path: Path) -> None:
    out = done("--home", made / "bank", "list").out
    listed = done("--home", made / "bank", "--json", "list").document["experts"]
    (paint,) = (one for one in listed if one["task"] == "paint")
    assert f"{paint['accuracy']:.3f}" in out
    shown = done("predict", "--home", made / "bank", "--task", "paint", "the sky is red").out
    assert "paint" in shown


REFUSED: dict[str, tuple[list[tuple[str, str]], list[Any], str]] = {
    "an empty answer": (
        [*paint_rows(20), ("the sky", "  ")],
        [],
        r":22: .*no label",
    ),
    "an answer of no token": (
        [*paint_rows(20), ("the sky", "\u200b")],
        [],
        "no label|no token",
    ),
    "a stop text in an answer": (
        paint_rows(40),
        ["--stop", "film"],
        "stop text 'film' stands in the answer",
    ),
    "more than can be read": (
        [*paint_rows(20), ("the sky", "law " * 70)],
        [],
        r"the backbone can read 64",
    ),
    "a stop text of broken bytes": (paint_rows(20), ["--stop", "\udcff"], "stop holds"),
    "a template of broken bytes": (
        paint_rows(20),
        ["--response-template", "\udcff"],
        "response_template holds",
    ),
    "an empty stop text": (paint_rows(20), ["--stop", ""], "must not be empty"),
    "no tokens": (paint_rows(20), ["--max-tokens", 0], "max-tokens|max_tokens"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_written_is_refused_and_nothing_is_kept(
    case: str, backbone_folder, tmp_path: Path
) -> None:
    rows, words, said = REFUSED[case]
    data = write_rows(tmp_path / "rows.csv", rows, ("prompt", "completion"))
    answer = call(
        *["--home", tmp_path / "bank", "add", *KIND, "--task", "paint", "--data", data],
        *["--backbone", backbone_folder("llama, tied"), *words],
    )
    assert answer.code == 2
    assert re.search(said, answer.err), answer.err
    listed = call("--home", tmp_path / "bank", "--json", "list")
    assert listed.code == 10 or listed.document["experts"] == []


def test_answers_that_can_never_be_written_are_counted(backbone_folder, tmp_path: Path) -> None:
    rows = [*paint_rows(40), ("the sky", "Zebra!"), ("the river", "good [SEP] film")]
    data = write_rows(tmp_path / "rows.csv", rows, ("prompt", "completion"))
    told = done(
        *["--home", tmp_path / "bank", "--json", "add", *KIND, "--task", "paint", "--data", data],
        *["--backbone", backbone_folder("llama, tied"), "--epochs", 1, "--max-tokens", 2],
    ).document["warnings"]
    long = sum(label != "law" for _, label in rows)  # one token, and the one that ends it
    assert any(one.startswith("2 of 42 answers cannot be written") for one in told), told
    assert any("'Zebra!'" in one or "'good [SEP] film'" in one for one in told)
    assert any(f"{long} of 42 answers have more than the 2 tokens" in one for one in told), told


@pytest.mark.parametrize(("family", "said"), [("bert", "encoder"), ("llama", "no language-model")])
def test_a_backbone_that_cannot_write_is_refused_before_training(
    family: str, said: str, backbone_folder, tmp_path: Path
) -> None:
    data = write_paint(tmp_path / "paint.csv", 20)
    answer = call(
        *["--home", tmp_path / "bank", "add", *KIND, "--task", "paint", "--data", data],
        *["--backbone", backbone_folder(family)],
    )
    assert answer.code == 2
    assert said in answer.err


def test_a_bank_that_keeps_no_text_takes_no_texts_as_evidence(
    backbone_folder, tmp_path: Path
) -> None:
    data = write_paint(tmp_path / "paint.csv", 40)
    answer = call(
        *["--home", tmp_path / "bank", "add", *KIND, "--task", "paint", "--data", data],
        *["--backbone", backbone_folder("llama, tied"), "--keep", "stats"],
    )
    assert answer.code == 2
    assert "statistics only" in answer.err


def test_a_bundle_for_import_brings_the_texts_and_none_may_be_left_out(
    made: Path, backbone_folder, tmp_path: Path
) -> None:
    export = ["--home", made / "bank", "export", tmp_path / "out", "--for-import"]
    answer = call(*export, "--statistics")
    assert answer.code == 2
    assert "no row may leave" in answer.err
    assert not (tmp_path / "out").exists()
    done(*export)
    other = ["--home", tmp_path / "other"]
    done(*other, "init", "--backbone", backbone_folder("llama, tied"))
    done(*other, "import", tmp_path / "out")
    both = [
        done(*home, "--json", "show", "paint").document["evaluations"][0]["metrics"]
        for home in (["--home", made / "bank"], other)
    ]
    assert both[0] == both[1]


def test_how_answers_are_written_is_no_setting_of_other_kinds(tmp_path: Path) -> None:
    data = write_task(tmp_path / "mood.csv", "mood")
    home = ["--home", tmp_path / "none", "add", "--task", "mood", "--data", data]
    answer = call(*home, "--max-tokens", 5)
    assert answer.code == 2
    assert "max_tokens" in answer.err
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def exported(made: Path) -> Path:
    words = ["export", made / "peft", "--format", "peft"]
    assert done("--home", made / "bank", "--json", *words).document["verified"] is True
    return made / "peft" / "paint"


def test_an_export_for_peft_says_what_a_caller_sends_to_an_engine(exported: Path) -> None:
    told = json.loads((exported / "writing.json").read_text())
    assert told["response_template"] == "\n"
    assert told["stop"] == ["vote"]
    assert 2 <= told["max_tokens"] <= 3
    assert told["kind"] == "generation"
    assert not (exported / "head.safetensors").exists()
    assert (exported.parent / "mood" / "head.safetensors").exists()
    assert not (exported.parent / "mood" / "writing.json").exists()


def test_an_export_for_llama_cpp_answers_with_the_same_document_and_says_the_same_to_callers(
    exported: Path, made: Path, tmp_path: Path
) -> None:
    pytest.importorskip("gguf", reason="package gguf (extra gguf) is not installed")
    words = ["export", tmp_path / "out", "--format", "gguf"]
    told = done("--home", made / "bank", "--json", *words).document
    assert (told["format"], told["verified"]) == ("gguf", True)
    assert {effect["expert"] for effect in told["effects"]} == {"mood@1", "paint@1"}
    assert all(effect["effect"] > 1e-3 for effect in told["effects"])
    told_callers = (tmp_path / "out" / "paint" / "writing.json").read_bytes()
    assert told_callers == (exported / "writing.json").read_bytes()
    assert not (tmp_path / "out" / "paint" / "head.safetensors").exists()
    text = (tmp_path / "out" / "paint" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    compile(code, "README.md", "exec")


def test_the_lines_of_its_readme_write_what_the_bank_writes(
    exported: Path, made: Path, backbone_folder, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    (exported / "backbone").symlink_to(backbone_folder("llama, tied"))
    (code,) = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    with working_in(exported):
        exec(compile(code, "README.md", "exec"), names)
    rows = [{"text": text} for text, _ in paint_rows(12, seed=5)]
    rows += [{"text": "sky red", "text_pair": "of the river"}]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    lines = done("predict", "--home", made / "bank", "--task", "paint", "--file", file, "--json")
    written = [line["text"] for line in lines.lines]
    assert [names["answer"](*row.values()) for row in rows] == written
    assert len(set(written)) > 1
    bare = [_without_adapter(names, row) for row in rows]
    assert bare != written, "the adapter takes effect"


def _without_adapter(names: dict[str, Any], row: dict[str, str]) -> str:
    with names["model"].disable_adapter():
        text: str = names["answer"](*row.values())
    return text


def test_a_way_to_write_that_does_not_come_back_is_never_published(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from expertbank.workflows.shipping import export_adapters

    real = export_adapters.document

    def another(content: dict[str, Any]) -> bytes:
        return real(content).replace(b'"max_tokens": ', b'"max_tokens": 1')

    monkeypatch.setattr(export_adapters, "document", another)
    answer = call("--home", made / "bank", "export", tmp_path / "x", "--format", "peft")
    assert answer.code == 13
    assert "does not hold the expert" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_does_not_come_in_as_an_expert_that_writes(exported: Path, made: Path) -> None:
    words = ["import", "--peft", exported, "--task", "again", "--data", made / "paint.csv", *KIND]
    answer = call("--home", made / "bank", *words)
    assert answer.code == 2
    assert "--for-import" in answer.err
    assert "again" not in done("--home", made / "bank", "list", "--json").out
