"""``tasks``: the list, one task, and the dry run, for people and for machines."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import call, content, done, write_csv, write_task

from expertbank.data import catalog_names

SPEC = """\
name: urgency
columns: {text: body, label: urgent}
labels: ["no", "yes"]
sources: [{name: own, ref: rows.csv}]
"""


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    rows = [(f"words {n}", "yes" if n % 3 else "no") for n in range(60)]
    write_csv(tmp_path / "rows.csv", list(rows), ("body", "urgent"))
    (tmp_path / "task.yaml").write_text(SPEC)
    return tmp_path / "task.yaml"


def test_the_list_and_one_task(tmp_path: Path) -> None:
    home = tmp_path / "none"
    listed = done("--home", home, "tasks", "--json").document["tasks"]
    assert {"boolq", "mnli", "stsb", "csqa"} <= {task["task"] for task in listed}
    about = {"task", "kind", "description", "licence", "sources", "added", "group"}
    assert set(listed[0]) == about
    assert "multiple_choice" in done("--home", home, "tasks").out
    shown = done("--home", home, "tasks", "show", "sick", "--json").document
    assert shown["labels"] == ["entailment", "neutral", "contradiction"]
    assert done("--home", home, "tasks", "sick", "--json").document == shown
    assert "sentence_A" in done("--home", home, "tasks", "show", "sick").out
    assert not home.exists()


def test_what_tasks_show_prints_is_a_task_file(tmp_path: Path) -> None:
    for name in catalog_names():
        file = tmp_path / f"{name}.yaml"
        file.write_text(done("tasks", "show", name).out, encoding="utf-8")
        again = done("tasks", "show", "--spec", file, "--json").document
        assert again == done("tasks", "show", name, "--json").document


def test_an_unknown_task_comes_with_near_ones(tmp_path: Path) -> None:
    for words in (["tasks", "show", "bolq"], ["tasks", "bolq"]):
        answer = call("--home", tmp_path, *words, "--json")
        assert answer.code == 10
        assert "did you mean boolq" in answer.error["message"]
    assert call("--home", tmp_path, "tasks", "show").code == 2


def test_a_dry_run_says_what_is_there_and_writes_nothing(tmp_path: Path, backbone: Path) -> None:
    write_task(tmp_path / "mood.csv", "mood")
    home, before = tmp_path / "bank", content(tmp_path)
    words = ["--home", home, "tasks", "check", tmp_path / "mood.csv", "--backbone", backbone]
    found = done(*words, "--max-length", 8, "--limit", 30, "--epochs", 2, "--json").document
    assert found["rows"]["read"] == 80
    assert (found["rows"]["train"], found["rows"]["validation"]) == (30, 16)
    assert {item["label"] for item in found["labels"]} == {"bad", "good"}
    assert sum(item["train"] for item in found["labels"]) == 30
    assert found["lengths"]["unit"] == "tokens"
    assert found["lengths"]["truncated"] > 0
    plan = found["plan"]
    assert plan["train"] + plan["selection"] == 30
    assert plan["seconds"] == pytest.approx(plan["tokens"] * 2 / 3000, abs=0.1)
    fast = done(*words, "--tokens-per-second", 6e6, "--json").document["plan"]
    assert fast["seconds"] < 0.1
    text = done(*words, "--max-length", 8).out
    assert "are longer than 8 tokens and are cut" in text
    assert "to train on" in text
    assert content(tmp_path) == before


def test_a_task_file_and_column_flags(task_file: Path) -> None:
    home = task_file.parent / "none"
    own = done("--home", home, "tasks", "check", "--spec", task_file, "--json").document
    assert (own["task"], own["columns"]["text"]) == ("urgency", "body")
    rows = task_file.parent / "rows.csv"
    flags = ["--text-column", "body", "--label-column", "urgent"]
    named = done("--home", home, "tasks", "check", rows, *flags, "--json").document
    assert named["rows"] == own["rows"]
    assert named["digests"] == own["digests"]
    shown = done("--home", home, "tasks", "show", "--spec", task_file, "--json").document
    assert shown["labels"] == ["no", "yes"]
    renamed = done("--home", home, "tasks", "check", "--spec", task_file, "--task", "other")
    assert renamed.out.split()[:2] == ["task", "other"]


def test_columns_of_choices_are_named_one_by_one(tmp_path: Path) -> None:
    rows = [(f"q {n}", "left", "right", str(n % 2)) for n in range(40)]
    path = write_csv(tmp_path / "a.csv", list(rows), ("q", "one", "two", "key"))
    flags = ["--text-column", "q", "--label-column", "key"]
    flags += ["--choices-column", "one", "--choices-column", "two"]
    found = done("--home", tmp_path / "x", "tasks", "check", path, *flags, "--json").document
    assert found["kind"] == "multiple_choice"
    assert [item["label"] for item in found["labels"]] == ["0", "1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to check"),
        (["gone.csv"], "there is no file or folder gone.csv"),
        (["--spec", "gone.yaml"], "cannot read the task file gone.yaml"),
        (["x.csv", "--task", "A b"], "bad task name"),
        (["x.csv", "--max-length", "3"], "max_length must be at least 8"),
        (["x.csv", "--data", "y.csv"], "give the data once"),
        (["x.csv", "--separator", "ab"], "a separator is one character"),
        (["x.csv", "--encoding", "klingon"], "no text encoding is called 'klingon'"),
        (["x.csv", "--limit", "1"], "limit must be at least 8"),
    ],
)
def test_bad_requests_are_refused(tmp_path: Path, words: list[str], message: str) -> None:
    answer = call("--home", tmp_path, "tasks", "check", *words, "--json")
    assert answer.code == 2
    assert message in answer.error["message"]
    assert answer.out == ""


def test_odd_labels_are_shown_and_bad_rows_named(tmp_path: Path) -> None:
    rows = [(f"t {n}", ["Spam", "spam", "ham"][n % 3]) for n in range(30)]
    path = write_csv(tmp_path / "a.csv", list(rows), ("text", "label"))
    words = ["--home", tmp_path / "x", "tasks", "check", path]
    assert "'Spam' (10 rows), 'spam' (10 rows)" in done(*words).out
    write_csv(path, [*rows, ("", "ham")], ("text", "label"))
    answer = call(*words, "--json")
    assert answer.code == 2
    assert answer.error["message"].startswith(f"{path}:32: the text")


def test_labels_of_validation_alone_are_listed_in_the_document(tmp_path: Path) -> None:
    rows = [(f"t {n}", "ab"[n % 2]) for n in range(30)]
    write_csv(tmp_path / "train.csv", rows, ("text", "label"))
    odd = [("x", "a"), ("y", "new"), ("z", "newer")]
    write_csv(tmp_path / "validation.csv", odd, ("text", "label"))
    answer = call("--home", tmp_path / "x", "--json", "tasks", "check", tmp_path)
    assert answer.code == 2
    (fault,) = answer.document["bad_rows"]
    assert (fault["fault"], fault["rows"]) == ("label without a training row", 2)
    assert answer.document["rows"]["validation"] == 1
    assert "drop_labels" in answer.error["message"]


def test_the_command_that_lists_all_bad_rows_does(tmp_path: Path, backbone: Path) -> None:
    (tmp_path / "my data").mkdir()
    rows = [("", "a"), ("", "b"), *((f"t {n}", "ab"[n % 2]) for n in range(30))]
    path = write_csv(tmp_path / "my data" / "a.csv", rows, ("body text", "label"))
    place = ["--home", tmp_path / "x"]
    add = [*place, "add", "--task", "mine", "--backbone", backbone, "--data", path]
    refused = call(*add, "--text-column", "body text")
    assert refused.code == 2
    (told,) = (line for line in refused.err.splitlines() if line.endswith(" lists all of them"))
    words = shlex.split(told.removesuffix(" lists all of them"))
    listed = call(*place, "--json", *words[1:])
    assert listed.document["bad_rows"][0]["rows"] == 2


def test_what_add_would_refuse_is_told_by_the_dry_run(bank: Path, tmp_path: Path) -> None:
    asked = write_csv(
        tmp_path / "asked.csv",
        [(f"what is {n}", f"it is {n}. no more" if n == 7 else f"it is {n}") for n in range(40)],
        ("text", "label"),
    )
    words = ("tasks", "check", asked, "--kind", "generation", "--stop", ". ")
    answer = call("--home", tmp_path / "none", *words, "--json")
    assert answer.code == 2
    (fault,) = answer.document["bad_rows"]
    assert (fault["fault"], fault["rows"]) == ("stop text", 1)
    scored = write_csv(
        tmp_path / "scored.csv", [(f"film {n}", str(n / 7)) for n in range(40)], ("text", "label")
    )
    check = ("tasks", "check", scored, "--task", "mood", "--kind", "regression", "--new-version")
    told = done("--home", bank, *check, "--json").document["warnings"]
    refused = call("--home", bank, "add", *check[3:], "--data", scored, "--json")
    assert refused.code == 2
    assert f"add would refuse: {refused.error['message']}" in told


def test_it_runs_without_torch(tmp_path: Path) -> None:
    path = write_task(tmp_path / "mood.csv", "mood")
    code = (
        "import sys; from expertbank_cli.main import run\n"
        f"try: run(['--home', {str(tmp_path)!r}, '--json', 'tasks', 'check', {str(path)!r}])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "heavy = [m for m in ('torch', 'transformers', 'datasets') if m in sys.modules]\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--adapter", "lora", "--tt-rank", 2], "no tensor train: --rank is its size"),
        (["--rank", 2], "the size of a tensor train is --tt-rank"),
        (["--adapter", "lorra"], "no adapter kind named 'lorra'"),
        (["--adapter", "none"], "nothing to train"),
        (["--external", "x", "--tune", 2], "leave out --tune"),
    ],
)
def test_a_dry_run_refuses_the_settings_that_add_refuses_and_neither_writes(
    words: list[object], message: str, tmp_path: Path, backbone: Path
) -> None:
    data, home = write_task(tmp_path / "mood.csv", "mood"), tmp_path / "bank"
    given = ["--task", "mood", "--data", data, "--backbone", backbone, *words]
    checked = call("--home", home, "--json", "tasks", "check", *given)
    added = call("--home", home, "--json", "add", *given)
    assert (checked.code, added.code, checked.out) == (2, 2, "")
    assert message in checked.error["message"]
    assert checked.error == added.error
    assert not home.exists() or not content(home)


def test_names_of_a_bank_are_not_looked_for_in_the_catalog_for_ever(bank: Path) -> None:
    answer = call("--home", bank, "tasks", "show", "mood")
    assert answer.code == 10
    assert f"expertbank --home {bank} show shows what a bank holds" in answer.err
    answer = call("--home", bank, "tasks", "show", "mood", "--data", "a.csv")
    assert answer.code == 2
    assert "put --" not in answer.err
    answer = call("--home", bank, "show", "router@9")
    assert answer.code == 10
    assert "no router named 'router@9'" in answer.err
