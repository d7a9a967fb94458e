"""`import --peft`: what was exported for PEFT comes in again, of every kind; what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import call, content, done, task_rows, write_task
from small_tasks import choice_rows, value_rows, write_jsonl, write_rows

from expertbank import Bank

KINDS = {
    "mood": [],
    "pick": ["--choices-column", "choices"],
    "grade": ["--kind", "regression"],
    "marks": ["--label-separator", ";"],
}
"""Task of each kind to the options that read its rows."""


@pytest.fixture(scope="module")
def exports(
    backbone_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Data, a bank with a task of each kind, and its export for PEFT; never write to it."""
    folder = tmp_path_factory.mktemp("import-peft")
    write_task(folder / "mood", "mood", 60)
    write_jsonl(folder / "pick.jsonl", choice_rows(60)).rename(folder / "pick")
    write_rows(folder / "grade", value_rows(60), ("text", "label"))
    marked = [
        (text, label if n % 3 else "bad;good")
        for n, (text, label) in enumerate(task_rows("mood", 60))
    ]
    write_rows(folder / "marks", marked, ("text", "label"))
    for task in KINDS:
        (folder / task).rename(folder / f"{task}{suffix(task)}")
    home = ["--home", folder / "bank"]
    done(*home, "init", "--backbone", backbone_folder("bert"), "--max-length", 32)
    for task, words in KINDS.items():
        data = folder / f"{task}{suffix(task)}"
        done(*home, "add", "--task", task, "--data", data, *words, "--epochs", 1)
    done(*home, "retrain-router")
    done(*home, "export", folder / "peft", "--format", "peft")
    return folder


def suffix(task: str) -> str:
    return ".jsonl" if task == "pick" else ".csv"


def words_of(exports: Path, task: str, *more: object) -> list[object]:
    data = exports / f"{task}{suffix(task)}"
    words = ["import", "--peft", exports / "peft" / task, "--task", task, "--data", data]
    return [*words, *KINDS[task], *more]


def test_experts_of_every_kind_come_back_with_the_answers_they_had(
    exports: Path, backbone_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """A bank of the adapters alone routes, reports and answers; its first import makes it."""
    home = ["--home", tmp_path / "bank"]
    wish = ["--backbone", backbone_folder("bert"), "--max-length", 32]
    for task in KINDS:
        document = done(*home, "--json", *words_of(exports, task, *wish)).document
        (made,) = document["imported"]
        assert made["id"] == f"{task}@1"
        assert document["peft"]["head"] == "export"
        assert document["peft"]["expert"] == f"{task}@1"
        theirs = done("--home", exports / "bank", "--json", "show", task).document
        ours = done(*home, "--json", "show", task).document
        assert ours["run"]["kind"] == "import"
        (before,), (now,) = theirs["evaluations"][:1], ours["evaluations"][:1]
        assert now["metrics"] == pytest.approx(before["metrics"], abs=1e-4)
    done(*home, "retrain-router")
    report = done(*home, "--json", "forgetting-report", "--verify").document
    assert report["weights_unchanged"] is True
    rows = [{"text": text} for text, _ in task_rows("mood", 4, seed=7)]
    asked = dict.fromkeys(("mood", "marks", "grade"), rows)
    asked["pick"] = [{k: r[k] for k in ("text", "choices")} for r in choice_rows(4, seed=7)]
    for task, lines in asked.items():
        stdin = "".join(json.dumps(row) + "\n" for row in lines).encode()
        ask = ["--json", "predict", "--task", task, "--file", "-"]
        wanted = done("--home", exports / "bank", *ask, stdin=stdin).lines
        found = done(*home, *ask, stdin=stdin).lines
        for line, expected in zip(found, wanted, strict=True):
            if task == "grade":
                assert float(line["label"]) == pytest.approx(float(expected["label"]), abs=1e-5)
            else:
                assert line["scores"] == pytest.approx(expected["scores"], abs=1e-5)
            assert line.get("labels") == expected.get("labels")
    checked = call(*home, "verify")
    assert checked.code == 0, checked.out


def test_labels_may_stand_in_one_option_or_in_several(
    exports: Path, backbone_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    done("--home", tmp_path, "init", "--backbone", backbone_folder("bert"), "--max-length", 32)
    for words in (["--labels", "good, bad"], ["--labels", "good", "--labels", "bad"]):
        wish = [*words_of(exports, "mood", *words), "--new-version"]
        document = done("--home", tmp_path, "--json", *wish).document
        assert document["peft"]["labels"] == "given"
    with Bank.open(tmp_path, read_only=True) as bank:
        assert [one.labels for one in bank.experts()] == [("good", "bad")] * 2


def test_what_came_in_is_told_in_words(
    exports: Path, backbone_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    home = ["--home", tmp_path / "bank"]
    wish = ["--backbone", backbone_folder("bert"), "--max-length", 32, "--fit-head"]
    answer = done(*home, *words_of(exports, "mood", *wish, "--epochs", 2))
    assert "mood@1" in answer.out
    assert "attention.self.query" in answer.out
    assert "fitted on" in answer.out
    assert "which rows the adapter was trained on" in answer.err
    assert " retrain-router" in answer.err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["import"], 2, "one thing to import"),
        (["import", "bundle", "--peft", "x", "--task", "mood"], 2, "one thing to import"),
        (["import", "--peft", "x"], 2, "--task"),
        (["import", "--peft", "x", "--task", "a", "--task", "b"], 2, "one task"),
        (["import", "--peft", "x", "--task", "mood", "--dry-run"], 2, "tasks check"),
        (["import", "--peft", "x", "--task", "mood"], 10, "no folder"),
        (["import", "bundle", "--labels", "a,b"], 2, "--peft"),
        (["import", "bundle", "--route-layer", "0"], 2, "--route-layer is for adapters"),
        (["import", "--peft", ".", "--task", "mood"], 10, "holds no adapter_config.json"),
    ],
)
def test_words_that_do_not_go_together_are_refused(
    words: list[str], code: int, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = call("--home", tmp_path / "bank", *words)
    assert (answer.code, text in answer.err) == (code, True), answer.err
    assert list(tmp_path.iterdir()) == []


def test_the_whole_export_is_no_adapter_and_its_folders_are_named(
    exports: Path, tmp_path: Path
) -> None:
    words = ["import", "--peft", exports / "peft", "--task", "mood"]
    answer = call("--home", tmp_path / "bank", *words)
    assert answer.code == 10
    assert "grade, marks, mood, pick" in answer.err


def test_a_kind_that_is_not_the_experts_is_refused(exports: Path, tmp_path: Path) -> None:
    before = content(exports / "bank")
    words = words_of(exports, "mood", "--kind", "regression", "--new-version")
    answer = call("--home", exports / "bank", *words)
    assert answer.code == 2
    assert "of kind classification, not regression" in answer.err
    assert content(exports / "bank") == before
