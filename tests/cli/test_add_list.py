"""``add`` of several tasks from one list, from task files, and the same rows in three formats."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command_line import call, content, done, task_rows, write_csv, write_task
from small_tasks import choice_rows, value_rows, write_jsonl, write_rows


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """A list of two good tasks and a bad one between them, with their data."""
    write_task(tmp_path / "mood.csv", "mood")
    rows = task_rows("poll", 20)
    write_csv(tmp_path / "bad.csv", [*rows[:3], ("vote", ""), *rows[3:]], ("text", "label"))
    write_jsonl(tmp_path / "pick.jsonl", choice_rows(60))
    path = tmp_path / "tasks.yaml"
    path.write_text(
        f"- task: mood\n  data: {tmp_path / 'mood.csv'}\n  epochs: 2\n"
        f"- task: poll\n  data: {tmp_path / 'bad.csv'}\n"
        f"- {{task: pick, data: {tmp_path / 'pick.jsonl'}, choices-column: choices}}\n"
    )
    return path


def test_one_bad_task_does_not_stop_the_others_and_the_summary_names_it(
    lists: Path, backbone: Path, tmp_path: Path
) -> None:
    home = tmp_path / "bank"
    words = ["add", "--list", lists, "--epochs", 1, "--backbone", backbone, "--retrain-router"]
    answer = call("--home", home, "--json", *words)
    assert answer.code == 2
    found = json.loads(answer.out)
    assert set(found) == {"added", "failed", "router"}
    assert [one["task"] for one in found["added"]] == ["mood", "pick"]
    assert [one["train"]["epochs"] for one in found["added"]] == [2, 1], "an entry's own wins"
    (failed,) = found["failed"]
    assert (failed["task"], failed["code"]) == ("poll", 2)
    assert "bad.csv:5" in failed["message"]
    assert sorted(found["router"]["tasks"]) == ["mood", "pick"]
    listed = done("--home", home, "--json", "list").document["experts"]
    assert [expert["id"] for expert in listed] == ["mood@1", "pick@1"]
    alone = done(
        *["--home", tmp_path / "alone", "--json", "add", "--task", "mood"],
        *["--data", tmp_path / "mood.csv", "--epochs", 2, "--backbone", backbone],
    ).document
    assert alone["expert"] == found["added"][0]["expert"]


def test_the_summary_for_people_is_one_table_with_all_tasks(
    lists: Path, backbone: Path, tmp_path: Path
) -> None:
    answer = call(
        *["--home", tmp_path / "bank", "add", "--list", lists, "--epochs", 1],
        *["--backbone", backbone],
    )
    assert answer.code == 2
    for word in ("mood@1", "pick@1", "poll", "FAILED"):
        assert word in answer.out
    assert answer.out.count("expert ") <= 1, "one heading"


def test_a_list_without_failures_exits_0_and_a_second_run_tells_that_they_exist(
    lists: Path, backbone: Path, tmp_path: Path
) -> None:
    home = ["--home", tmp_path / "bank", "--json"]
    lists.write_text(f"- {{task: mood, data: {tmp_path / 'mood.csv'}, epochs: 1}}\n")
    found = done(*home, "add", "--list", lists, "--backbone", backbone).document
    assert (len(found["added"]), found["failed"]) == (1, [])
    assert "router" not in found
    again = call(*home, "add", "--list", lists)
    assert again.code == 3
    assert [one["code"] for one in again.document["failed"]] == [3]


WRONG: dict[str, tuple[str, str]] = {
    "an unknown key": ("- task: mood\n- {task: poll, epoch: 3}\n", "entry 3.*did you mean epochs"),
    "a key like no other": ("- {task: mood, zzzzz: 3}\n", "entry 2: unknown key 'zzzzz'"),
    "no task": ("- data: a.csv\n", "entry 2: needs a task or a spec"),
    "no list": ("task: mood\n", "expected a list"),
    "an empty file": ("", "expected a list"),
    "no YAML": ("- [", "not a YAML file"),
    "a number for a list entry": ("- 7\n", "entry 2"),
    "a word for a number": ("- {task: mood, epochs: many}\n", "epochs must be a whole number"),
    "a fraction of an epoch": ("- {task: mood, epochs: 1.5}\n", "epochs must be a whole number"),
    "yes for a number": ("- {task: mood, limit: yes}\n", "limit must be a whole number"),
    "a word for a rate": ("- {task: mood, lr: fast}\n", "lr must be a number"),
    "a number for a task": ("- {task: 7}\n", "task must be text"),
    "a list for a task": ("- {task: [mood]}\n", "task must be text"),
    "a number for a group": ("- {task: mood, group: 7}\n", "group must be text"),
    "a list for a kind": ("- {task: mood, kind: [a]}\n", "kind must be text"),
    "a number for a column": ("- {task: mood, text-column: 7}\n", "text_column must be text"),
    "numbers for choices": (
        "- {task: mood, choices-column: [7]}\n",
        "choices_column.0. must be text",
    ),
    "a word for yes or no": ("- {task: mood, new-version: maybe}\n", "new_version must be true"),
    "a number for a source": ("- {task: mood, data: 7}\n", "data must be text"),
    "nothing after a key": ("- {task: mood, data: }\n", "data must be text"),
    "an unknown kind": ("- {task: mood, data: mood.csv, kind: poetry}\n", "poetry"),
    "no epochs": ("- {task: mood, data: mood.csv, epochs: 0}\n", "epochs must be 1 to 1000"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_list_that_is_not_right_is_refused_before_any_work(
    case: str, lists: Path, bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, message = WRONG[case]
    first = f"- {{task: fresh, data: {lists.parent / 'mood.csv'}}}\n" if text[:1] == "-" else ""
    lists.write_text(first + text.replace("task: mood", "task: other"))
    monkeypatch.chdir(lists.parent)
    before = content(bank)
    answer = call("--home", bank, "--json", "add", "--list", lists)
    assert answer.code == 2, answer
    assert answer.out == ""
    assert re.search(message, answer.error["message"], re.DOTALL), answer.err
    assert content(bank) == before, "not even the entry before it was added"


def test_values_of_a_list_are_read_as_on_the_command_line(backbone: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "pick.jsonl", choice_rows(40))
    path = tmp_path / "tasks.yaml"
    path.write_text(
        f"- task: pick\n  data: {data}\n  choices-column: [choices]\n  lr: 1e-3\n"
        "  alpha: 4\n  tt_rank: 2\n  seed: 3\n  patience: 2\n  resume: true\n"
    )
    add = ["--json", "add", "--epochs", 1, "--backbone", backbone]
    listed = done("--home", tmp_path / "a", *add, "--list", path).document["added"][0]
    words = ["--task", "pick", "--data", data, "--choices-column", "choices", "--lr", 1e-3]
    words += ["--alpha", 4, "--tt-rank", 2, "--seed", 3, "--patience", 2]
    assert done("--home", tmp_path / "b", *add, *words).document["expert"] == listed["expert"]


def test_a_task_file_describes_a_task_as_the_catalog_does(backbone: Path, tmp_path: Path) -> None:
    rows = task_rows("mood", 60)
    write_csv(tmp_path / "raw.csv", [(text, label[0]) for text, label in rows], ("body", "verdict"))
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ncolumns: {text: body, label: verdict}\nlabels: [bad, good]\n"
        "label_names: {b: bad, g: good}\nsources: [{name: own, ref: raw.csv}]\n"
    )
    plain = write_csv(tmp_path / "mine.csv", rows, ("text", "label"))
    add = ["--json", "add", "--epochs", 1, "--backbone", backbone]
    spec = done("--home", tmp_path / "a", *add, "--spec", tmp_path / "mine.yaml").document
    flags = done("--home", tmp_path / "b", *add, "--task", "mine", "--data", plain).document
    assert spec["expert"] == flags["expert"]
    assert spec["expert"]["labels"] == ["bad", "good"]
    named = done("--home", tmp_path / "c", *add, "--spec", tmp_path / "mine.yaml", "--task", "own")
    assert named.document["task"] == "own"
    (tmp_path / "list.yaml").write_text(f"- spec: {tmp_path / 'mine.yaml'}\n")
    listed = done("--home", tmp_path / "d", *add, "--list", tmp_path / "list.yaml").document
    assert listed["added"][0]["expert"] == spec["expert"]


def test_add_needs_to_be_told_what(bank: Path) -> None:
    answer = call("--home", bank, "add")
    assert answer.code == 2
    assert "--task" in answer.err


def test_an_unknown_kind_is_refused(bank: Path, tmp_path: Path) -> None:
    data = write_task(tmp_path / "a.csv", "mood", 20)
    answer = call("--home", bank, "add", "--task", "a", "--data", data, "--kind", "poetry")
    assert answer.code == 2
    assert "multiple_choice" in answer.err


FORMATS = ("csv", "jsonl", "parquet")


@pytest.mark.parametrize("kind", ["classification", "multiple_choice", "regression"])
def test_csv_jsonl_and_parquet_copies_give_the_same_rows_and_the_same_expert(
    kind: str, backbone: Path, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    options: list[object] = ["--epochs", 1, "--backbone", backbone]
    if kind == "multiple_choice":
        rows = choice_rows(50)
        cells = [(row["text"], json.dumps(row["choices"]), str(row["label"])) for row in rows]
        write_rows(tmp_path / "it.csv", cells, ("text", "choices", "label"))
        options += ["--choices-column", "choices"]
    else:
        pairs = value_rows(50) if kind == "regression" else task_rows("mood", 50)
        number = kind == "regression"
        rows = [{"text": t, "label": float(v) if number else v} for t, v in pairs]
        write_rows(tmp_path / "it.csv", pairs, ("text", "label"))
        options += ["--kind", kind]
    write_jsonl(tmp_path / "it.jsonl", rows)
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "it.parquet")
    experts, digests = [], []
    for name in FORMATS:
        home = ["--home", tmp_path / name, "--json", "add", "--task", "it"]
        found = done(*home, "--data", tmp_path / f"it.{name}", *options).document
        experts.append(found["expert"])
        digests.append(found["data"]["digests"])
    assert digests[0] == digests[1] == digests[2]
    assert experts[0] == experts[1] == experts[2]
    objects = [content(tmp_path / name / "objects") for name in FORMATS]
    assert objects[0] == objects[1] == objects[2]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("alpha: 0", r"tasks\.yaml: entry 2: alpha must be above 0"),
        ("tt_rank: 3, tt-rank: 4", r"tasks\.yaml: entry 2: tt-rank stands twice"),
    ],
)
def test_a_slip_in_a_list_is_told_by_its_entry_and_nothing_is_trained(
    entry: str, said: str, backbone: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "mood.csv", "mood", 60)
    file = tmp_path / "tasks.yaml"
    file.write_text(f"- {{task: mood, data: {data}}}\n- {{task: other, data: {data}, {entry}}}\n")
    answer = call("--home", tmp_path / "bank", "add", "--list", file, "--backbone", backbone)
    assert answer.code == 2
    assert re.search(said, answer.err), answer.err
    assert not (tmp_path / "bank").exists()


def test_choices_that_are_not_read_are_remarked_on(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "pick.jsonl", choice_rows(40))
    found = done("--json", "tasks", "check", file).document
    assert any("'choices' was not read" in one for one in found["warnings"]), found
    read = done(
        *["--json", "tasks", "check", file, "--kind", "multiple_choice"],
        *["--choices-column", "choices"],
    ).document
    assert not any("was not read" in one for one in read["warnings"])
